"""A disk that is full or cannot be written to leaves what was there, and no part of a file."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.preloaded import VECTORS

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]


@pytest.fixture
def good_run(small_disk: Path, call_in: Call) -> dict[str, bytes]:
    """What a finished run left on the small disk."""
    options = ("--steps", 2, "--hidden", "8", "-o", "m.safetensors")
    assert call_in(small_disk, "train", *VECTORS, *options).code == 0
    return {p.name: p.read_bytes() for p in small_disk.iterdir()}


def test_training_onto_a_full_disk_keeps_the_last_good_checkpoint(
    small_disk: Path, good_run: dict[str, bytes], call_in: Call
) -> None:
    options = ("--steps", 2, "--hidden", "512,512", "-q", "--force", "-o", "m.safetensors")
    done = call_in(small_disk, "train", *VECTORS, *options)
    assert (done.code, done.out, done.err.count("\n")) == (73, b"", 1)
    assert "m.safetensors" in done.err
    assert good_run == {p.name: p.read_bytes() for p in small_disk.iterdir()}


@pytest.mark.parametrize(
    "arguments", ["sample m.safetensors", "eval m.safetensors rings --metric csm"]
)
def test_a_full_disk_leaves_no_part_of_an_output(
    arguments: str, small_disk: Path, good_run: dict[str, bytes], call_in: Call
) -> None:
    room = small_disk / "filler"
    room.write_bytes(bytes(shutil.disk_usage(small_disk).free - 2 * 4096))  # two pages are left
    done = call_in(small_disk, *arguments.split(), "-o", "s.h5")
    assert (done.code, done.out, done.err.count("\n"), "s.h5" in done.err) == (73, b"", 1, True)
    room.unlink()
    assert good_run == {p.name: p.read_bytes() for p in small_disk.iterdir()}


@pytest.mark.parametrize(
    "arguments",
    [
        "train gaussian:2 --steps 2 --hidden 8 --force -o m.safetensors",
        "train gaussian:2 --steps 2 --hidden 8 -o new.safetensors",
        "sample m.safetensors -n 2 -o s.h5",
        "eval m.safetensors gaussian:2 -o s.h5",
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_at_once(
    arguments: str, small_disk: Path, good_run: dict[str, bytes], call_in: Call
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = call_in(small_disk, *arguments.split())
    assert (done.code, done.out, done.err.count("\n")) == (73, b"", 1)
    assert arguments.split()[-1] in done.err
    assert good_run == {p.name: p.read_bytes() for p in small_disk.iterdir()}
