"""Comparison files: what comes back, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.comparison_file import (
    Comparison,
    is_comparison,
    load_comparison,
    save_comparison,
)


def comparison() -> Comparison:
    table = {
        "method": np.array(["csm", "dsm", "csm"]),
        "seconds": np.array([0.5, np.nan, np.inf]),
    }
    return Comparison("cost", {"dims": [10]}, {"iterations": table}, [{"command": "compare"}])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.h5"
    save_comparison(path, comparison())
    return path


def test_what_is_written_comes_back(file: Path) -> None:
    found, given = load_comparison(file), comparison()
    assert (found.experiment, found.settings) == (given.experiment, given.settings)
    assert found.provenance == given.provenance
    for name, column in given.tables["iterations"].items():
        np.testing.assert_array_equal(found.tables["iterations"][name], column)


def test_equal_results_give_equal_bytes(file: Path, tmp_path: Path) -> None:
    save_comparison(tmp_path / "again.h5", comparison())
    assert (tmp_path / "again.h5").read_bytes() == file.read_bytes()


def test_other_hdf5_is_told_apart(file: Path, tmp_path: Path) -> None:
    assert is_comparison(file)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.attrs["format"] = "arcsm-samples"
    assert not is_comparison(tmp_path / "other.h5")


@pytest.mark.parametrize(
    "table", [{}, {"a": np.zeros(0)}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a/b": np.zeros(1)}]
)
def test_tables_that_are_none_are_not_written(tmp_path: Path, table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="table"):
        save_comparison(tmp_path / "c.h5", Comparison("cost", {}, {"t": table}, []))


def later(file: h5py.File) -> None:
    file.attrs["format_version"] = 99


def without_a_column(file: h5py.File) -> None:
    del file["iterations/seconds"]


def with_more(file: h5py.File) -> None:
    file["iterations/more"] = np.zeros(3, np.float32)


def of_other_lengths(file: h5py.File) -> None:
    del file["iterations/seconds"]
    file["iterations/seconds"] = np.zeros(4, np.float32)


def with_an_unknown_text(file: h5py.File) -> None:
    file["iterations/method"][0] = 7


def with_half_a_text(file: h5py.File) -> None:
    file["iterations/method"][0] = 0.5


def without_its_layout(file: h5py.File) -> None:
    file.attrs["comparison"] = "{}"


def with_a_link(file: h5py.File) -> None:
    del file["iterations/seconds"]
    file["iterations/seconds"] = h5py.ExternalLink("other.h5", "/x")


def of_many_rows(file: h5py.File) -> None:
    text = file.attrs["comparison"].replace('"rows":3', '"rows":300000000')
    file.attrs["comparison"] = text


@pytest.mark.parametrize(
    "damage",
    [
        later,
        without_a_column,
        with_more,
        of_other_lengths,
        with_an_unknown_text,
        with_half_a_text,
        without_its_layout,
        with_a_link,
        of_many_rows,
    ],
)
def test_a_file_that_does_not_fit_is_refused(file: Path, damage: Any) -> None:
    with h5py.File(file, "r+") as opened:
        damage(opened)
    with pytest.raises(DamagedInputError, match=r"c\.h5"):
        load_comparison(file)


def test_a_truncated_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DamagedInputError, match=r"c\.h5"):
        load_comparison(file)
