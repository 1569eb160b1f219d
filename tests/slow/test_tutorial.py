"""The tutorial's commands run as they stand, on a few images laid out as MNIST's files."""

import re
import struct
import subprocess
from pathlib import Path

import numpy as np

TEXT = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
OUTPUTS = ("training.png", "samples.png", "restored.png", "likelihood.json", "report.html")


def write_mnist(folder: Path, counts: dict[str, int]) -> None:
    """Smooth spots, so many for each of MNIST's two parts."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    for part, count in counts.items():
        centres = noise.uniform(8, 20, (count, 2, 1, 1))
        spots = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 20)
        images = struct.pack(">4i", 0x803, count, 28, 28) + (255 * spots).astype(np.uint8).tobytes()
        labels = struct.pack(">2i", 0x801, count) + bytes(i % 10 for i in range(count))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def test_every_command_of_the_tutorial_works_in_its_order(
    program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    write_mnist(tmp_path / "data" / "MNIST" / "raw", {"train": 200, "t10k": 20})
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT.read_text(), re.M | re.S))
    named = "arcsm() { " + " ".join(program) + ' "$@"; }\n'
    sizes = {"STEPS": "3", "EXAMPLES": "4", "ARCSM_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        ["sh", "-euxc", named + commands],
        cwd=tmp_path, env=environment | sizes, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in OUTPUTS:
        assert (tmp_path / name).stat().st_size > 0
    assert "auroc" in done.stdout
