"""Numeric text tables: one example per line."""

import array
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.dataset import MAX_BYTES
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.streams import label, show

_DELIMITERS = (";", "\t", ",")
_MAX_LINE = 2**24  # characters


def read_table(path: Path) -> Tensor:
    """Read a table of numbers as vectors (float32, N x D).

    Cells are parted by ``;``, tabs, ``,`` or any white space, whichever is found first in that
    order. A first line without any number is a header; empty lines and lines that begin with
    ``#`` are skipped.

    Raises:
        DamagedInputError: A cell is not a finite number (the message names the column and the
            line), a line is of another length than the first, or there are no numbers.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("a;b\\n1;2.5\\n3;4\\n")
        ...     file.flush()
        ...     read_table(Path(file.name))
        tensor([[1.0000, 2.5000],
                [3.0000, 4.0000]])
    """
    where = label(path)
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            delimiter = _sniff(file)
            file.seek(0)
            return _parse(_rows(file, delimiter), where)
    except csv.Error as error:
        raise DamagedInputError(
            f"{where}: is not a table of numbers: {show(str(error), 100)}"
        ) from error


def _sniff(file: TextIO) -> str | None:
    """Return the delimiter of the table, ``None`` for white space."""
    # the second line with content: a header may hold spaces or commas that part nothing
    first, second = [*itertools.islice(filter(str.strip, _lines(file)), 2), "", ""][:2]
    for delimiter in _DELIMITERS:
        if delimiter in (second or first):
            return delimiter
    for delimiter in _DELIMITERS:
        if delimiter in first and any(map(_is_number, first.split(delimiter))):
            return delimiter
    return None


def _lines(file: TextIO) -> Iterator[str]:
    """Iterate over all lines; those without content are empty."""
    while line := file.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise csv.Error(f"a line is longer than {_MAX_LINE} characters")
        if "\0" in line:
            raise csv.Error("it holds binary zeros")
        yield line if line.strip() and not line.startswith("#") else "\n"


def _rows(file: TextIO, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Iterate over line numbers and cells; lines without content stay, to keep the count."""
    lines = _lines(file)
    if delimiter is None:
        for number, line in enumerate(lines, 1):
            if cells := line.split():
                yield number, [cell.strip('"') for cell in cells]
        return
    open_line = 0

    def one_by_one() -> Iterator[str]:
        nonlocal open_line
        for number, line in enumerate(lines, 1):
            if open_line:  # the reader would go on collecting cells for ever
                raise csv.Error(f"a quoted cell of line {open_line} does not end in it")
            open_line = number
            yield line

    for cells in csv.reader(one_by_one(), delimiter=delimiter, skipinitialspace=True, strict=True):
        number, open_line = open_line, 0
        if cells:
            yield number, cells


def _parse(rows: Iterator[tuple[int, list[str]]], where: str) -> Tensor:
    values = array.array("d")
    lines = array.array("q")  # where each row stood, for messages
    header: list[str] = []
    width = 0
    for number, cells in rows:
        if not lines and not header and not any(_is_number(cell) for cell in cells):
            header = cells
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise DamagedInputError(
                f"{where}: line {number} has {len(cells)} columns where those before have {width}"
            )
        try:
            if "_" in "".join(cells):  # float() takes them between digits
                raise ValueError
            values.extend(map(float, cells))
        except ValueError:
            column = next(i for i, cell in enumerate(cells) if not _is_number(cell))
            raise DamagedInputError(
                f"{where}: {_column(column, width, header)}, line {number}: "
                f"{show(cells[column], 30)} is not a number"
            ) from None
        lines.append(number)
        if len(values) * 8 > MAX_BYTES:
            raise DamagedInputError(f"{where}: is more than fits in memory")
    if not lines:
        raise DamagedInputError(f"{where}: holds no numbers")
    table = np.frombuffer(values).reshape(len(lines), width)
    bad = np.argwhere(~(np.abs(table) <= np.finfo(np.float32).max))
    if len(bad):
        row, column = bad[0]
        raise DamagedInputError(
            f"{where}: {_column(column, width, header)}, line {lines[row]}: "
            f"the value is {table[row, column]:g}, not a finite number of 32 bits"
        )
    return torch.from_numpy(table.astype(np.float32))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _column(column: int, width: int, header: list[str]) -> str:
    name = f" ({show(header[column], 40)})" if len(header) == width else ""
    return f"column {column + 1}{name}"
