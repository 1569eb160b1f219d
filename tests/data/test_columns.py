"""Columns of data that a model knows by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.data.stream import Examples, open_stream
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.samples import SampleWriter

VALUES = np.array([[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]], np.float32)
SWAPPED = VALUES[:, ::-1].tolist()


@pytest.fixture(params=["csv", "h5"])
def named(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file of columns b and a."""
    path = tmp_path / f"t.{request.param}"
    if request.param == "csv":
        path.write_text("b,a\n" + "".join(f"{x},{y}\n" for x, y in VALUES))
    else:
        with SampleWriter(path, (2,), [{"command": "x"}], ("b", "a")) as writer:
            writer.append(VALUES)
    return str(path)


def opened(spec: str, names: tuple[str, ...] = (), **options: Any) -> tuple[Any, Any]:
    """Names and values as `open_stream` gives them, which `load_data` must give too."""
    chosen = DataOptions(**options)
    examples: Examples
    with open_stream(spec, chosen, default_split="test", names=names) as examples:
        found = examples.columns, examples.rows(0, 9).x.tolist()
    data = load_data(spec, chosen, default_split="test", names=names)
    assert (data.columns, data.rows(0, 9).x.tolist()) == found
    return found


def test_names_come_with_the_data(named: str) -> None:
    assert opened(named) == (("b", "a"), VALUES.tolist())


def test_columns_are_put_into_the_model_s_order(named: str) -> None:
    assert opened(named, ("a", "b")) == (("a", "b"), SWAPPED)
    assert opened(named, ("b", "a")) == (("b", "a"), VALUES.tolist())
    assert opened(named, ("a", "b"), columns="b,a") == (("a", "b"), SWAPPED)


@pytest.mark.parametrize("names", [("a", "c"), ("a",), ("a", "b", "c")])
def test_other_columns_than_the_model_s_are_refused(named: str, names: tuple[str, ...]) -> None:
    with pytest.raises(DamagedInputError, match="column"):
        opened(named, names)


def test_columns_that_the_model_does_not_know_can_be_left_out(named: str) -> None:
    assert opened(named, ("a",), drop="b") == (("a",), [row[:1] for row in SWAPPED])


def test_data_without_names_are_taken_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", VALUES)
    assert opened(str(tmp_path / "t.npy"), ("a", "b"))[1] == VALUES.tolist()


def test_columns_of_images_are_no_choice() -> None:
    with pytest.raises(UsageError, match="--drop"):
        load_data("digits", DataOptions(drop="1"), default_split="test")
    with pytest.raises(UsageError, match="--header"):
        load_data("digits", DataOptions(header="yes"), default_split="test")
