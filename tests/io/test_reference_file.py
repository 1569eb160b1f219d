"""References of statistics in files: what is written is read, what is hostile is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.reference_file import (
    Reference,
    Spread,
    Typical,
    load_reference_file,
    save_reference,
)
from tests.io.references import DIGEST, GOOD, GOOD_SPREAD, KEPT, SPREAD, write


@pytest.mark.parametrize("spread", [None, SPREAD])
def test_what_is_saved_is_what_is_loaded(spread: Spread | None, tmp_path: Path) -> None:
    reference = replace(KEPT, multiscale=spread)
    save_reference(str(tmp_path / "r"), reference)
    assert load_reference_file(tmp_path / "r") == reference


def test_equal_references_are_equal_bytes_that_other_programs_read(tmp_path: Path) -> None:
    from safetensors import safe_open

    for name in ("a", "b"):
        save_reference(str(tmp_path / name), KEPT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt") as file:
        assert file.metadata()["arcsm_format"] == "reference"
        assert list(file.keys()) == []


def test_vectors_that_are_not_those_of_a_reference_are_refused(tmp_path: Path) -> None:
    for spread, vectors in (
        (SPREAD, np.ones((4, 3), np.float32)),
        (None, np.ones((4, 2), np.float32)),
        (SPREAD, np.full((4, 2), np.nan, np.float32)),
        (SPREAD, np.ones((4, 2), np.float64)),
        (SPREAD, np.ones((10_001, 2), np.float32)),
    ):
        save_reference(str(tmp_path / "r"), replace(KEPT, multiscale=spread, vectors=vectors))
        with pytest.raises(DamagedInputError, match=r"vectors|tensors"):
            load_reference_file(tmp_path / "r")


def test_nothing_that_is_no_number_is_saved(tmp_path: Path) -> None:
    bad = Reference(DIGEST, "x", DIGEST, 1, 1, {"csm": Typical(float("nan"), 0.0)})
    with pytest.raises(ValueError, match="JSON compliant"):
        save_reference(str(tmp_path / "r"), bad)
    assert list(tmp_path.iterdir()) == []


HOSTILE_SPREADS: list[dict[str, Any]] = [
    {"levels": []},
    {"levels": [-1.0]},
    {"levels": [0.1] * 17},
    {"levels": "0.1"},
    {"mean": [0]},
    {"mean": [0, 10**400]},
    {"mean": [0, "1"]},
    {"mean": [0, True]},
    {"mean": {"0": 1}},
    {"mean": [0] * 65, "covariance": [[0] * 65] * 65},
    {"covariance": None},
    {"covariance": [1, 2]},
    {"covariance": [[1, 0]]},
    {"covariance": [[1, 0], [0]]},
    {"covariance": [[1, 0], [0.5, 1]]},
    {"covariance": [[-1, 0], [0, 1]]},
    {"covariance": [[1, 2], [2, 1]]},
    {"covariance": [[0, 1], [1, 5]]},
    {"covariance": [[1e-300, 1e200], [1e200, 1e-300]]},
    {"more": 1},
]
INDEFINITE = [[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]
HOSTILE: list[dict[str, Any]] = [
    {"multiscale": []},
    {"multiscale": {}},
    *({"multiscale": GOOD_SPREAD | change} for change in HOSTILE_SPREADS),
    {"multiscale": GOOD_SPREAD | {"mean": [0, 0, 0], "covariance": INDEFINITE}},
    {"checkpoint": "f" * 63},
    {"checkpoint": 1},
    {"digest": None},
    {"data": ["x"]},
    {"limit": 0},
    {"limit": True},
    {"count": 1.5},
    {"count": 1 << 70},
    {"statistics": []},
    {"statistics": {"csm": 1}},
    {"statistics": {"csm": {"median": "1", "mad": 1}}},
    {"statistics": {"csm": {"median": 10**400, "mad": 1}}},
    {"statistics": {"csm": {"median": 1, "mad": -1}}},
    {"statistics": {"csm": {"median": True, "mad": 1}}},
    {"statistics": {"csm": {"median": 1}}},
    {"statistics": {"\x1b[31m": {"median": 1, "mad": 1}}},
    {"statistics": {f"s-{i}": {"median": 1, "mad": 1} for i in range(100)}},
    {"more": 1},
]


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    write(tmp_path / "r", GOOD)
    assert load_reference_file(tmp_path / "r").statistics == {"csm": Typical(1.0, 0.5)}
    write(tmp_path / "r", GOOD | {"multiscale": GOOD_SPREAD})
    spread = Spread((1.0, 0.1), (0.0, 1.0), ((1.0, 0.0), (0.0, 1.0)))
    assert load_reference_file(tmp_path / "r").multiscale == spread


def test_fields_are_those_of_the_version(tmp_path: Path) -> None:
    write(tmp_path / "r", GOOD, format_version="1")
    with pytest.raises(DamagedInputError, match="fields"):
        load_reference_file(tmp_path / "r")


@pytest.mark.parametrize(
    "content",
    [*(GOOD | change for change in HOSTILE), {}, [], 3, "", "{", "[" * 999, '{"a":1,"a":2}'],
    ids=lambda content: str(content)[-60:],
)
def test_hostile_values_are_refused_in_a_line(content: Any, tmp_path: Path) -> None:
    write(tmp_path / "m.reference", content)
    with pytest.raises(DamagedInputError, match=r"m\.reference") as raised:
        load_reference_file(tmp_path / "m.reference")
    assert "\n" not in str(raised.value)
