"""Numeric tables in text files."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from arcsm_cli.data.tables import read_table
from arcsm_cli.errors import DamagedInputError

Hostile = Callable[[], AbstractContextManager[None]]

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def table(folder: Path, text: str) -> list[list[float]]:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    values: list[list[float]] = read_table(path).tolist()
    return values


@quick
@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    delimiter=st.sampled_from([",", ";", "\t", " ", ", ", "   "]),
    header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_numbers_are_read_back_whatever_parts_them(
    tmp_path: Path, values: NDArray[np.float32], delimiter: str, header: bool, end: str
) -> None:
    lines = [delimiter.join(repr(float(cell)) for cell in row) for row in values]
    if header:
        lines.insert(0, delimiter.join(f"c{i}" for i in range(values.shape[1])))
    assert table(tmp_path, end.join(lines) + end) == values.tolist()


@quick
@given(content=st.binary(max_size=200))
def test_any_bytes_are_numbers_or_damaged(tmp_path: Path, content: bytes, hostile: Hostile) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with hostile():
        assert bool(read_table(path).isfinite().all())


@quick
@given(text=st.text("0123456789.,;\t \"'-e_nai#\n", max_size=60))
def test_any_text_of_a_table_s_characters_is_numbers_or_damaged(
    tmp_path: Path, text: str, hostile: Hostile
) -> None:
    with hostile():
        table(tmp_path, text)


def test_header_names_may_hold_other_delimiters(tmp_path: Path) -> None:
    assert table(tmp_path, '"fixed acidity, g";"pH"\n7.4;3.5\n') == [
        [pytest.approx(7.4), pytest.approx(3.5)]
    ]


def test_quoted_numbers_are_numbers(tmp_path: Path) -> None:
    assert table(tmp_path, '"1","2"\n"3","4"\n') == [[1, 2], [3, 4]]


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert table(tmp_path, "my value\n1\n2\n") == [[1], [2]]


def test_empty_lines_and_comments_are_skipped(tmp_path: Path) -> None:
    assert table(tmp_path, "# made by hand\n\n1,2\n\n# end\n3,4") == [[1, 2], [3, 4]]


def test_a_byte_order_mark_is_no_part_of_the_first_number(tmp_path: Path) -> None:
    assert table(tmp_path, "\ufeff1,2\n3,4\n") == [[1, 2], [3, 4]]


@pytest.mark.parametrize("cell", ["red", "", "1_0", "0x10", "7,4", "1 2"])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, cell: str, delimiter: str) -> None:
    with pytest.raises(
        DamagedInputError, match=r"t\.csv: column 2 \('colour'\), line 3: .* is not a"
    ):
        table(tmp_path, f"size{delimiter}colour\n1{delimiter}2\n3{delimiter}{cell}\n")


@pytest.mark.parametrize("value", ["nan", "-inf", "1e39"])
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(DamagedInputError, match=r"column 1, line 3: the value is .*, not a finite"):
        table(tmp_path, f"1,2\n\n{value},4\n")


def test_a_first_line_of_numbers_and_words_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(DamagedInputError, match="column 2, line 1: 'red'"):
        table(tmp_path, "1,red\n2,blue\n")


@pytest.mark.parametrize("line", ["1,2,3", "1"])
def test_lines_of_another_length_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DamagedInputError, match="line 2 has"):
        table(tmp_path, f"1,2\n{line}\n")


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "# 1\n"])
def test_a_table_without_numbers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamagedInputError, match="holds no numbers"):
        table(tmp_path, text)


def test_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedInputError, match="not a table"):
        table(tmp_path, '1,"2\n3,4\n')
