"""Results on stdout: a plain table for people, or with ``--json`` one JSON object for programs.

Both come from the same mapping, so they cannot disagree.
"""

import json as json_module
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arcsm_cli.cli.invocation import one_line

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


_WHOLE = 24  # characters of a name that is not folded, however narrow the terminal


def print_result(result: Mapping[str, Any], *, json: bool) -> None:
    """Prints what a command found out.

    Arguments:
        result: Figures under ``metrics``, whatever else by its name. Values are numbers, strings,
            paths, arrays and tensors, or lists and mappings of these. In the table a mapping is a
            section, a list of mappings a section with columns (or, where these hold lists or
            mappings themselves, with numbered parts), and anything else a line.
        json: One JSON object on one line, in which NaN and infinities are null, instead of a
            table.
    """
    if json:
        print(json_module.dumps(to_json(result), allow_nan=False))
    else:
        _print_tables(result)


def to_json(value: Any) -> Any:
    """`value` in the types of JSON; NaN and infinities, which JSON does not have, as None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # an array, a tensor, or a scalar of either
        return to_json(value.tolist())
    if isinstance(value, Iterable):
        return [to_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no place in a result")


def _print_tables(result: Mapping[str, Any]) -> None:
    from rich.console import Console, Group

    lines = {key: item for key, item in result.items() if not _is_section(item)}
    sections = {key: item for key, item in result.items() if _is_section(item)}
    parts: list[Any] = [_pairs(_rows(lines, 0))] if lines else []
    for name, section in sections.items():
        parts += [_text("")] if parts else []
        parts += [_text(one_line(name), "bold"), _section(section)]

    if sys.stdout.isatty():
        Console(highlight=False).print(Group(*parts))
        return
    # Away from a terminal nothing is ever folded or cut: a program may be reading.
    buffer = StringIO()
    console = Console(file=buffer, width=1 << 20, color_system=None, highlight=False)
    console.print(Group(*parts))
    print("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))


def _is_section(value: Any) -> bool:
    return (isinstance(value, Mapping) and bool(value)) or _is_list_of_mappings(value)


def _is_list_of_mappings(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(item, Mapping) for item in value)
    )


def _section(value: Any) -> "Table":
    if isinstance(value, Mapping):
        return _pairs(_rows(value, 1))
    if any(isinstance(item, list | tuple | Mapping) for row in value for item in row.values()):
        return _pairs(_rows({str(i): row for i, row in enumerate(value, 1)}, 1))
    return _columns(value)


def _rows(values: Mapping[str, Any], depth: int) -> list[tuple[str, str]]:
    """Names and values, those of a mapping within indented below its name."""
    rows = []
    for name, value in values.items():
        label = "  " * depth + one_line(name)
        if _is_list_of_mappings(value):
            value = {str(number): item for number, item in enumerate(value, 1)}
        if isinstance(value, Mapping) and value:
            rows += [(label, ""), *_rows(value, depth + 1)]
        else:
            rows.append((label, _shown(value)))
    return rows


def _grid(*, header: bool) -> "Table":
    from rich.table import Table

    return Table(
        box=None, show_header=header, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0)
    )


def _pairs(rows: list[tuple[str, str]]) -> "Table":
    """Two columns, names and values."""
    table = _grid(header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(_text(name), _text(value))
    return table


def _columns(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """A column for each key of the rows, numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = _grid(header=True)
    table.add_column("")  # indents the section, as the others are
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        # What a row is called stays in one piece, to be copied, if it leaves room for the others.
        longest = max(len(_shown(row.get(name))) for row in rows)
        table.add_column(
            _text(one_line(name)),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=name == names[0] and longest <= _WHOLE,
        )
    for row in rows:
        cells = [_shown(row[name]) if name in row else "" for name in names]
        table.add_row("", *(_text(cell) for cell in cells))
    return table


def _text(content: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(content, style)


def _shown(value: Any) -> str:
    """A value as one line of text; a number with six significant digits."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return " ".join(shlex.quote(_shown(item)) for item in value)
    return "-" if value is None or value == {} else one_line(value)
