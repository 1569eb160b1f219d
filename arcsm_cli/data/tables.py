"""Numeric text tables: one example per line."""

import array
import csv
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.columns import chosen, given_columns
from arcsm_cli.data.conditions import LABELS
from arcsm_cli.data.dataset import MAX_BYTES, Beside
from arcsm_cli.data.given import classes_of
from arcsm_cli.data.headers import (
    column_names,
    decide,
    is_header,
    is_missing,
    is_number,
    is_unnamed,
    is_whole,
)
from arcsm_cli.data.options import Asked, DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, show

_log = logging.getLogger(__name__)

_DELIMITERS = (";", "\t", ",", "|")
_MAX_LINE = 2**24  # characters
_SEPARATOR = re.compile(r'"?sep=.?"?', re.IGNORECASE)  # what Excel puts before a table
_MARKED = re.compile(r"[+-]?[0-9]*([, \u00a0\u202f'][+-]?[0-9]+)+")
_COUNTED = 20  # rows that make a column which counts them conspicuous


class Table(NamedTuple):
    """A table's numbers (float64, N x D) and the names of its columns, if it has any.

    ``beside`` holds the columns that ``--given`` names, in its order.
    """

    values: Tensor
    columns: tuple[str, ...] | None
    beside: tuple[Beside, ...] = ()


def read_table(
    path: Path, options: DataOptions | None = None, *, values: bool = True, gaps: bool = False
) -> Table:
    """Read a table of numbers.

    Cells are parted by ``;``, tabs, ``,``, ``|`` or white space, whichever is found first in
    that order; empty lines and lines that begin with ``#`` are skipped. `arcsm_cli.data.headers`
    says what makes a header. A first column without a name that counts up is an index, and left
    out.

    Arguments:
        options: ``header`` decides whether there is one; ``columns`` and ``drop`` choose columns,
            so that others need not hold numbers; those of ``given`` may hold texts.
        values: whether columns are read beside those of ``given``.
        gaps: cells may be missing (see `arcsm_cli.data.headers.MISSING`); their value is NaN.

    Raises:
        DamagedInputError: A cell is not a finite number (the message names the column and the
            line), a line is of another length than the first, there are no numbers, or the table
            can be read in two ways.
        UsageError: An option names no column.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("a;b\\n1;2.5\\n3;4\\n")
        ...     file.flush()
        ...     table = read_table(Path(file.name))
        >>> table.columns, table.values.tolist()
        (('a', 'b'), [[1.0, 2.5], [3.0, 4.0]])
    """
    where = label(path)
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            delimiter = _sniff(file)
            file.seek(0)
            parser = _Parser(where, options or DataOptions(), delimiter, values=values, gaps=gaps)
            return parser.parse(_rows(file, delimiter))
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
        if delimiter in first and any(map(is_number, first.split(delimiter))):
            return delimiter
    return None


def _lines(file: TextIO) -> Iterator[str]:
    """Iterate over all lines; those without content are empty."""
    while line := file.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise csv.Error(f"a line is longer than {_MAX_LINE} characters")
        if "\0" in line:
            raise csv.Error("it holds binary zeros")
        said = line.startswith("#") or _SEPARATOR.fullmatch(line.strip())
        yield line if line.strip() and not said else "\n"


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


_Row = tuple[int, list[str]]


class _Parser:
    """One reading of a table: from rows of cells to numbers and names."""

    def __init__(
        self, where: str, options: DataOptions, delimiter: str | None, *, values: bool, gaps: bool
    ) -> None:
        self.where = where
        self.reads_values, self.gaps = values, gaps
        self.options = options
        self.delimiter = delimiter
        self.names: tuple[str, ...] | None = None
        self.width = 0
        self.kept: list[int] | None = None
        self.given: dict[Asked, int] = {}
        self.texts: list[list[str]] = []  # of each of them, by row
        self.trailing = False  # every line ends with a delimiter

    def parse(self, rows: Iterator[_Row]) -> Table:
        """Read all rows."""
        start = list(itertools.islice(rows, 2))
        if not start:
            raise DamagedInputError(f"{self.where}: holds no numbers")
        first, second = start[0][1], start[1][1] if len(start) > 1 else []
        said = self.options.header
        header = said == "yes" if said else is_header(first, second, self.where)
        if header:
            del start[0]
        if not start:
            raise DamagedInputError(f"{self.where}: holds no numbers")
        self._lay_out(first if header else None, start[0][1])
        lines = array.array("q")  # where each row stood, for messages
        values = array.array("d")
        whole_below = False
        pairs = self._pairs(first if header else None)
        for number, cells in itertools.chain(start, rows):
            cells = self._checked(number, cells)
            if header is None and lines and not whole_below:
                whole_below = any(map(is_whole, cells))
            if pairs is not None:
                pairs = pairs.extended(cells)
            self._numbers(number, cells, values)
            for texts, place in zip(self.texts, self.given.values(), strict=True):
                texts.append(cells[place])
            lines.append(number)
            if len(values) * 8 > MAX_BYTES:
                raise DamagedInputError(f"{self.where}: is more than fits in memory")
        if pairs is not None and pairs.seen:
            raise DamagedInputError(
                f"{self.where}: its commas look like decimal or thousands marks, as in "
                f"{show(pairs.seen, 30)}: write decimal points and no marks of thousands, or give "
                f"it a header of {self.width} names if commas part its columns"
            )
        table = np.frombuffer(values).reshape(len(lines), -1)  # shares the memory of `values`
        if (
            header is None
            and len(lines) > 1
            and decide(first, whole_below=whole_below, where=self.where)
        ):
            self.names = column_names(first, self.width, self.where)
            table, lines = table[1:], lines[1:]
            self.texts = [texts[1:] for texts in self.texts]
        if not len(lines):
            raise DamagedInputError(f"{self.where}: holds no numbers")
        self._check_finite(table, lines)
        return self._table(table)._replace(beside=self._beside(lines))

    def _lay_out(self, header: Sequence[str] | None, cells: list[str]) -> None:
        """Settle the columns from the header and the first row of numbers."""
        self.trailing = (
            self.delimiter is not None
            and not self.gaps
            and len(cells) > 1
            and cells[-1].strip() == ""
            and (header is None or (len(header) >= len(cells) and header[-1].strip() == ""))
        )
        self.width = len(cells) - self.trailing
        if self.trailing:
            _log.warning("%s: its last column is empty and left out", self.where)
        if header is not None:
            named = header[: self.width] if self.trailing else header
            self.names = column_names(named, self.width, self.where)
        known = (self.names, self.width, self.where)
        self.given = given_columns(self.options, *known, elsewhere=False)
        self.texts = [[] for _ in self.given]
        self.kept = chosen(self.options, *known) if self.reads_values else []

    def _checked(self, number: int, cells: list[str]) -> list[str]:
        if self.trailing and len(cells) == self.width + 1 and not cells[-1].strip():
            cells = cells[:-1]
        if len(cells) != self.width:
            raise DamagedInputError(
                f"{self.where}: line {number} has {len(cells)} columns where those before have "
                f"{self.width}"
            )
        return cells

    def _numbers(self, number: int, cells: list[str], values: "array.array[float]") -> None:
        kept = cells if self.kept is None else [cells[i] for i in self.kept]
        if self.gaps:
            kept = ["nan" if is_missing(cell) else cell for cell in kept]
        try:
            if "_" in "".join(kept):  # float() takes them between digits
                raise ValueError
            values.extend(map(float, kept))
        except ValueError:
            places = range(self.width) if self.kept is None else self.kept
            column = next(i for i in places if not is_number(cells[i]))
            raise DamagedInputError(
                f"{self.where}: {self._called(column)}, line {number}: "
                f"{show(cells[column], 30)} is not a number{_advice(cells[column], column)}"
            ) from None

    def _beside(self, lines: Sequence[int]) -> tuple[Beside, ...]:
        """Return the columns of ``--given``: numbers, or where a column holds none, texts."""
        found = []
        for (item, place), texts in zip(self.given.items(), self.texts, strict=True):
            missing = next((i for i, text in enumerate(texts) if is_missing(text)), None)
            numbers = [is_number(text) for text in texts]
            odd = (
                None
                if item.labels or not any(numbers)
                else next((i for i, good in enumerate(numbers) if not good), None)
            )
            for row, what in ((missing, "is a missing value"), (odd, "is not a number")):
                if row is not None:
                    advice = ": fill it in, or leave the line out"
                    if row is odd:
                        advice = f"; {LABELS}={item.name} takes all for names of classes"
                    raise DamagedInputError(
                        f"{self.where}: {self._called(place)}, line {lines[row]}: "
                        f"{show(texts[row], 30)} {what}{advice}"
                    )
            if item.labels or not any(numbers):
                found.append(classes_of(item.name, texts))
                continue
            values = np.array(texts, np.float64)
            if not (np.abs(values) <= np.finfo(np.float32).max).all():
                row = int(np.argmin(np.abs(values) <= np.finfo(np.float32).max))
                raise DamagedInputError(
                    f"{self.where}: {self._called(place)}, line {lines[row]}: the value is "
                    f"{values[row]:g}, not a finite number of 32 bits"
                )
            found.append(Beside(item.name, torch.from_numpy(values)))
        return tuple(found)

    def _check_finite(self, table: NDArray[np.float64], lines: Sequence[int]) -> None:
        sound = np.abs(table) <= np.finfo(np.float32).max
        bad = np.argwhere(~(sound | np.isnan(table) if self.gaps else sound))
        if len(bad):
            row, place = bad[0]
            column = int(place) if self.kept is None else self.kept[place]
            value = table[row, place]
            advice = _advice("nan", column) if np.isnan(value) else ""
            raise DamagedInputError(
                f"{self.where}: {self._called(column)}, line {lines[row]}: the value is "
                f"{value:g}, not a finite number of 32 bits{advice}"
            )

    def _table(self, table: NDArray[np.float64]) -> Table:
        """Return the numbers with their names, without an index."""
        names = self.names
        if self.kept is not None and names is not None:
            names = tuple(names[i] for i in self.kept)
        if (
            not table.shape[1]
            or self.options.columns
            or (self.kept is not None and 0 not in self.kept)
        ):
            return Table(torch.from_numpy(table), names)  # the first column was decided on
        unnamed = names is not None and is_unnamed(names[0]) and table.shape[1] > 1
        column = table[:, 0]
        whole = bool((column == np.rint(column)).all())
        if unnamed and whole and (np.diff(column) > 0).all():
            _log.warning("%s: its first column, an unnamed index, is left out", self.where)
            return Table(torch.from_numpy(table[:, 1:].copy()), names[1:] if names else None)
        if unnamed and whole and len(np.unique(column)) == len(column):
            raise UsageError(
                f"{self.where}: its first column has no name and looks like an index in another "
                "order: leave it out with --drop 1, or name those that are to be taken with "
                "--columns"
            )
        if len(column) >= _COUNTED and whole and (np.diff(column) == 1).all():
            _log.warning(
                "%s: %s counts the rows: if it is an index, leave it out with --drop 1",
                *(self.where, self._called(0)),
            )
        return Table(torch.from_numpy(table), names)

    def _pairs(self, header: Sequence[str] | None) -> "_Pairs | None":
        """Return what watches for numbers that commas have cut in two, where that may be."""
        if self.delimiter != "," or self.width % 2:
            return None
        if header is not None and len(header) != self.width // 2:
            return None
        return _Pairs("", any_pair=header is not None)

    def _called(self, column: int) -> str:
        name = "" if self.names is None else f" ({show(self.names[column], 40)})"
        return f"column {column + 1}{name}"


class _Pairs(NamedTuple):
    """Whole numbers side by side that may be one number with a comma.

    Attributes:
        seen: what shows it: digits after a comma that begin with zero, as no whole number does.
        any_pair: any pair shows it, since the header has half as many names.
    """

    seen: str
    any_pair: bool

    def extended(self, cells: list[str]) -> "_Pairs | None":
        """Look at one more row; None once some number is no part of such a pair."""
        halves = list(zip(cells[::2], cells[1::2], strict=True))
        if not all(is_whole(a.strip().lstrip("+-")) and is_whole(b) for a, b in halves):
            return None
        if self.seen:
            return self
        split = (
            f"{a},{b}"
            for a, b in halves
            if self.any_pair or a == "-0" or (len(b) > 1 and b[0] == "0")
        )
        return self._replace(seen=next(split, ""))


def _advice(cell: str, column: int) -> str:
    """Return what to do about a cell that is no number."""
    drop = f"leave the column out with --drop {column + 1}"
    if is_missing(cell):
        return f" but a missing value: fill it in, leave the line out, or {drop}"
    if _MARKED.fullmatch(cell.strip()):
        return ": write decimal points and no marks of thousands"
    if "\u2212" in cell:
        return ": write minus signs as '-'"
    return f"; {drop} if it holds no numbers"
