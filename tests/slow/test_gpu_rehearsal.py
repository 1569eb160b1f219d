"""The stages of ``make gpu`` on the CPU: nothing of the script is new when a GPU is at hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_stage_of_a_gpu_run_ends_well_at_toy_size(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "bench/gpu/run.py", "--rehearsal", "--minutes", "60"]
    result = subprocess.run(
        [*map(str, command), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + (tmp_path / "log.txt").read_text()[-4000:]
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {"tests", "steps", "sampling", "training"} <= {next(iter(row)) for row in rows}
    compiler = shutil.which("c++") or shutil.which("g++")
    failed = [row for row in rows if "failed" in row]
    assert not [row for row in failed if compiler or "compiled" not in str(row)]
