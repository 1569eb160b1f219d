"""Numeric tables in text files."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.tables import read_table
from arcsm_cli.errors import ArcsmError, DamagedInputError, UsageError

Hostile = Callable[[], AbstractContextManager[None]]

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(folder: Path, text: str) -> list[list[float]]:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    values: list[list[float]] = read_table(path).values.tolist()
    return values


def read(folder: Path, text: str, **options: Any) -> tuple[tuple[str, ...] | None, Any]:
    """Names and numbers of a table."""
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    given = {k: ",".join(v) if isinstance(v, tuple) else v for k, v in options.items()}
    found = read_table(path, DataOptions(**given))
    return found.columns, found.values.tolist()


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
        assert bool(read_table(path).values.isfinite().all())


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


NUMBERS = "0.5,-1.5,2.5\n1.5,2.5,0.25\n"
VALUES = [[0.5, -1.5, 2.5], [1.5, 2.5, 0.25]]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a,b,c", ("a", "b", "c")),
        ("0,1,2", ("0", "1", "2")),  # what pandas writes for columns without names
        ("id,2019,2020", ("id", "2019", "2020")),
        ('"a, b",,a', ("a, b", "Unnamed: 1", "a")),
        ("a,b,a", ("a", "b", "a.1")),
        ("sep=,\na,b,c", ("a", "b", "c")),
    ],
)
def test_a_header_names_the_columns(tmp_path: Path, header: str, names: tuple[str, ...]) -> None:
    assert read(tmp_path, f"{header}\n{NUMBERS}") == (names, VALUES)


@pytest.mark.parametrize(
    "first", ["2019,2020,2021", "0,1", "0", "0,1,2\n3,4,5", "1,2,3 # note", ",,", "NA,NA,NA"]
)
def test_a_first_line_of_two_readings_is_refused(tmp_path: Path, first: str) -> None:
    width = first.split("\n")[0].count(",") + 1
    below = "\n".join(",".join(line.split(",")[:width]) for line in NUMBERS.split())
    with pytest.raises(DamagedInputError):
        read(tmp_path, f"{first}\n{below}\n")


def test_the_option_decides_about_the_header(tmp_path: Path) -> None:
    years = f"2019,2020,2021\n{NUMBERS}"
    assert read(tmp_path, years, header="yes") == (("2019", "2020", "2021"), VALUES)
    assert read(tmp_path, years, header="no") == (None, [[2019, 2020, 2021], *VALUES])


@pytest.mark.parametrize("text", ["3,4\n5,6\n", "1,0\n0,1\n0,0\n", "1\n2.5\n3\n", "1,2,3\n"])
def test_whole_numbers_above_whole_numbers_are_data(tmp_path: Path, text: str) -> None:
    names, values = read(tmp_path, text)
    assert (names, len(values)) == (None, text.count("\n"))


@pytest.mark.parametrize("first", [",a,b,c", "Unnamed: 0,a,b,c", ",0,1,2", ",2019,2020,2021"])
def test_an_unnamed_index_is_left_out(tmp_path: Path, first: str) -> None:
    rows = "".join(f"{i + 3},{row}\n" for i, row in enumerate(NUMBERS.split()))
    names, values = read(tmp_path, f"{first}\n{rows}")
    assert (names, values) == (tuple(first.split(",")[1:]), VALUES)


def test_a_header_one_name_short_belongs_to_a_table_with_an_index(tmp_path: Path) -> None:
    assert read(tmp_path, "a b\n1 0.5 1.5\n2 2.5 3.5\n") == (
        ("a", "b"),
        [[0.5, 1.5], [2.5, 3.5]],
    )


def test_an_index_in_another_order_is_refused_unless_chosen(tmp_path: Path) -> None:
    text = ",a\n3,0.5\n1,1.5\n2,2.5\n"
    with pytest.raises(UsageError, match="--drop 1"):
        read(tmp_path, text)
    assert read(tmp_path, text, drop=("1",)) == (("a",), [[0.5], [1.5], [2.5]])
    assert read(tmp_path, text, columns=("1", "a"))[1] == [[3, 0.5], [1, 1.5], [2, 2.5]]


def test_columns_are_taken_by_name_or_number_and_others_need_hold_no_numbers(
    tmp_path: Path,
) -> None:
    text = "job,age,2\nclerk,31,0.5\nnurse,40,\n"
    assert read(tmp_path, text, columns=("age",)) == (("age",), [[31], [40]])
    assert read(tmp_path, text, drop=("job", "2")) == (("age",), [[31], [40]])
    swapped = read(tmp_path, f"a,b,c\n{NUMBERS}", columns=("3", "a"))
    assert swapped == (("c", "a"), [[2.5, 0.5], [0.25, 1.5]])


@pytest.mark.parametrize(
    "options", [{"columns": ("x",)}, {"drop": ("4",)}, {"columns": ("a", "1")}, {"drop": (*"abc",)}]
)
def test_columns_that_are_not_there_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"t\.csv"):
        read(tmp_path, f"a,b,c\n{NUMBERS}", **options)


@pytest.mark.parametrize(
    "text",
    [
        "0,125\n-0,5\n1,07\n",
        "1,000\n1,037\n",
        "x\n1,5\n2,25\n",
        '"1,000",2\n',
        "1,000;2\n3;4\n",
        "1,5\t2\n3,5\t4\n",
        "0,12 1,5\n0,25 1,5\n",
        "1\u00a0000;2\n",
    ],
)
def test_decimal_and_thousands_commas_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamagedInputError, match="write decimal points"):
        read(tmp_path, text)


def test_delimiters_at_the_ends_of_lines_make_no_column(tmp_path: Path) -> None:
    rows = NUMBERS.replace("\n", ",\n")
    assert read(tmp_path, f"a,b,c,\n{rows}") == (("a", "b", "c"), VALUES)


def test_values_keep_their_double_precision(tmp_path: Path) -> None:
    assert table(tmp_path, "100000000.25,1\n100000000.5,2\n")[0][0] == 100000000.25


@quick
@given(text=st.text("01,.\nab", max_size=30), header=st.sampled_from([None, "yes", "no"]))
def test_no_option_makes_a_table_fail_otherwise(
    tmp_path: Path, text: str, header: str | None
) -> None:
    try:
        columns, values = read(tmp_path, text, header=header)
    except ArcsmError:
        return
    assert columns is None or len(columns) == len(values[0])
