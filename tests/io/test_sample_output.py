"""Samples as tables and archives: the very values of the sample file, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from arcsm_cli.errors import ArcsmError, UsageError
from arcsm_cli.io.sample_output import check_ending, sample_output

CHAIN = [{"command": "sample", "arguments": [], "version": "1", "time": "now", "host": "h"}]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_holds_the_values_under_their_names(tmp_path: Path, dtype: type) -> None:
    values = (1e8 + np.random.default_rng(0).normal(size=(7, 2))).astype(dtype)
    path = tmp_path / "s.csv"
    with sample_output(str(path), (2,), [], ("a,b", "nll")) as append:
        for part in (values[:3], values[3:]):
            append(part, labels=np.arange(len(part)), statistics={"nll": part[:, 0]})
    with open(path, newline="") as file:
        heading, *rows = list(csv.reader(file))
    assert heading == ["a,b", "nll", "labels", "nll_"]
    found = np.array([row[:2] for row in rows]).astype(dtype)
    assert np.array_equal(found, values)
    assert [row[2] for row in rows] == list("0120123")
    assert os.listdir(tmp_path) == ["s.csv"]


def test_an_archive_holds_all_datasets(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5, 1, 3, 4), np.float32)
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path, size in zip(paths, (2, 5), strict=True):
        with sample_output(str(path), (1, 3, 4), CHAIN) as append:
            for start in range(0, 5, size):
                part = values[start : start + size]
                append(part, clean=part / 2, labels=np.arange(len(values))[start:][:size])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with np.load(paths[0]) as found:
        assert set(found) == {"samples", "clean", "labels", "provenance"}
        assert np.array_equal(found["samples"], values)
        assert np.array_equal(found["clean"], values / 2)
        assert found["labels"].tolist() == list(range(5))
        assert json.loads(str(found["provenance"]))[0]["command"] == "sample"


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_what_fails_leaves_nothing(tmp_path: Path, ending: str) -> None:
    with (
        pytest.raises(ArcsmError, match="NaN"),
        sample_output(str(tmp_path / f"s{ending}"), (2,), []) as append,
    ):
        append(np.full((3, 2), np.nan))
    assert os.listdir(tmp_path) == []


def test_images_are_no_table(tmp_path: Path) -> None:
    target = str(tmp_path / "s.csv")
    with pytest.raises(UsageError, match=r"\.npz"), sample_output(target, (1, 2, 2), []):
        pass


@pytest.mark.parametrize("name", ["s.pt", "s.PNG", "s.parquet", "s.npy"])
def test_names_of_other_kinds_of_files_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.h5"):
        check_ending(name, (".h5", ".npz"), "a sample file")


@pytest.mark.parametrize("name", ["s", "-", "s.h5", "s.NPZ", "run.2", "/dev/null"])
def test_names_that_tell_nothing_are_taken(name: str) -> None:
    check_ending(name, (".h5", ".npz"), "a sample file")
