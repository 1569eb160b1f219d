"""Results: the table and the JSON object carry the same, whatever is in them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.cli.table import print_result, to_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
RESULTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@given(RESULTS)
def test_json_is_strict_whatever_the_result_holds(result: dict[str, Any]) -> None:
    strict_json(json.dumps(to_json(result), allow_nan=False))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_null(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result({"metrics": {"nll": value}}, json=True)
    assert strict_json(capsys.readouterr().out) == {"metrics": {"nll": None}}


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"metrics": {"nll": 0.5}, "name": "a\nb"}, json=True)
    assert capsys.readouterr().out.count("\n") == 1


def test_json_keeps_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"metrics": {"nll": 0.1 + 0.2}}, json=True)
    assert strict_json(capsys.readouterr().out)["metrics"]["nll"] == 0.1 + 0.2


def test_arrays_tensors_and_paths_are_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    result = {
        "array": np.arange(3, dtype=np.float32),
        "number": np.float32(0.5),
        "tensor": torch.tensor([1, 2]),
        "path": Path("a") / "b",
    }
    print_result(result, json=True)
    expected = {"array": [0, 1, 2], "number": 0.5, "tensor": [1, 2], "path": "a/b"}
    assert strict_json(capsys.readouterr().out) == expected


def test_a_value_that_is_no_result_is_refused() -> None:
    with pytest.raises(TypeError):
        to_json({"metrics": object()})


def table(result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_result(result, json=False)
    return capsys.readouterr().out.splitlines()


def test_figures_stand_in_a_section_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table({"model": "m", "metrics": {"nll": 0.5712345678, "bpd": 1.0}}, capsys)
    assert lines == ["model  m", "", "metrics", "  nll  0.571235", "  bpd  1"]


def test_a_list_of_rows_has_a_column_for_each_key(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(
        {"auroc": [{"data": "svhn", "nll": 0.5}, {"data": "uniform", "nll": 1.0}]}, capsys
    )
    assert [line.split() for line in lines] == [
        ["auroc"],
        ["data", "nll"],
        ["svhn", "0.5"],
        ["uniform", "1"],
    ]


def test_long_values_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    value = "x" * 5000
    assert table({"a": value}, capsys) == [f"a  {value}"]


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert table({"[bold]a": "[red]b[/red] :smile:"}, capsys) == ["[bold]a  [red]b[/red] :smile:"]


@given(RESULTS)
def test_a_table_never_holds_control_characters(result: dict[str, Any]) -> None:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_result(result, json=False)
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


def test_an_empty_result_prints_nothing_strange(capsys: pytest.CaptureFixture[str]) -> None:
    assert table({}, capsys) in ([], [""])
