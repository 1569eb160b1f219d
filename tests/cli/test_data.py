"""``arcsm data``: any DATA as an HDF5 file."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]


def test_a_named_set_keeps_its_labels_and_takes_the_test_split(
    run_arcsm: RunArcsm, tmp_path: Path
) -> None:
    from arcsm_cli.data.options import DataOptions
    from arcsm_cli.data.spec import load_data

    assert run_arcsm("data", "digits", "-o", "d.h5").returncode == 0
    expected = load_data("digits:test", DataOptions(), default_split="train")
    with SampleFile(tmp_path / "d.h5") as file:
        assert file.names == ["samples", "labels"]
        assert np.array_equal(file.read(0, len(file)), next(expected.batches(1000)).x)


def test_a_table_of_numbers_is_stored_as_it_is(run_arcsm: RunArcsm, tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "rows.npy", rows)
    assert run_arcsm("data", "rows.npy", "-o", "rows.h5").returncode == 0
    with SampleFile(tmp_path / "rows.h5") as file:
        assert np.array_equal(file.read(0, 6), rows)


def test_converting_twice_changes_nothing(
    run_arcsm: RunArcsm, samples: Path, tmp_path: Path
) -> None:
    run_arcsm("data", samples, "-o", "copy.h5")
    with SampleFile(samples) as one, SampleFile(tmp_path / "copy.h5") as other:
        assert np.array_equal(one.read(0, 4), other.read(0, 4))
        assert np.array_equal(one.read(0, 4, "labels"), other.read(0, 4, "labels"))


def test_limit_takes_the_first_examples(run_arcsm: RunArcsm, samples: Path, tmp_path: Path) -> None:
    run_arcsm("data", samples, "--limit", 2, "-o", "two.h5")
    with SampleFile(tmp_path / "two.h5") as file:
        assert file.read(0, 9)[:, 0].tolist() == [0, 1]


def test_the_chain_of_the_input_is_continued(
    run_arcsm: RunArcsm, write_samples: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_samples("s.h5", chain=[{"command": "sample"}])
    run_arcsm("data", path, "-o", "copy.h5")
    with SampleFile(tmp_path / "copy.h5") as file:
        assert [entry["command"] for entry in file.provenance] == ["sample", "data"]


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ("mnits", 66, "mnist"),
        ("nowhere.h5", 66, "nowhere.h5"),
        ("mnist", 69, "--download"),
        ("text.h5", 65, "text.h5"),
        ("text.csv", 65, "text.csv"),
    ],
)
def test_data_that_cannot_be_had_is_one_line(
    spec: str, code: int, message: str, run_arcsm: RunArcsm, tmp_path: Path
) -> None:
    for name in ("text.h5", "text.csv"):
        (tmp_path / name).write_text("words, words\n")
    done = run_arcsm("data", spec, "--data-dir", tmp_path, "-o", "out.h5")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert message in done.stderr
    assert not (tmp_path / "out.h5").exists()
