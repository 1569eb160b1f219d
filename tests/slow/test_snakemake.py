"""The Snakemake pipeline of docs/cluster, with a training that is stopped on its way."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arcsm_cli.io.checkpoint import load_checkpoint
from arcsm_cli.io.samples import SampleFile

SNAKEFILE = Path(__file__).parents[2] / "docs" / "cluster" / "Snakefile"
OPTIONS = "--steps 60 --hidden 12,12 --score-hidden 6,6 --checkpoint-every 5"
# Stops the first training as a scheduler would, once it has saved something.
PROGRAM = """#!/bin/bash
arcsm() {{ exec {python} -m arcsm_cli "$@"; }}
[[ $1 == train && ! -e stopped ]] || arcsm "$@"
touch stopped
(arcsm "$@") &
until [[ -e out/model.safetensors.resume ]]; do sleep 0.05; done
kill -USR2 $!
wait $!
status=$?
echo $status >stopped
exit $status
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Where the pipeline was run."""
    snakemake = shutil.which(
        "snakemake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if snakemake is None:
        pytest.skip("Snakemake is not installed")
    folder = tmp_path_factory.mktemp("pipeline")
    program = folder / "bin" / "arcsm"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{environment.get('PATH', os.environ['PATH'])}"
    settings = ["data=digits", "folder=out", "parts=2", "samples=6", f"options={OPTIONS}"]
    done = subprocess.run(
        [snakemake, "--snakefile", SNAKEFILE, "--cores", "1", "--config", *settings],
        cwd=folder,
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_stopped_training_is_gone_on_with(folder: Path) -> None:
    assert (folder / "stopped").read_text() == "75\n"
    assert load_checkpoint(folder / "out" / "model.safetensors").training["step"] == 60


def test_all_figures_are_there(folder: Path) -> None:
    with SampleFile(folder / "out" / "samples.h5") as samples:
        assert len(samples) == 6
    for name in ("likelihood", "samples"):
        assert json.loads((folder / "out" / f"{name}.json").read_text())["metrics"]
