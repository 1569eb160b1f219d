"""Whether the first line of a text table names its columns, and what the names say."""

import logging
import re
from collections.abc import Sequence

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.column_names import LONGEST_NAME
from arcsm_cli.io.streams import show

_log = logging.getLogger(__name__)

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "."})
_WHOLE = re.compile(r"[0-9]+")
_LIKE_A_NUMBER = re.compile(r"[+-]?\.?[0-9]")
_UNNAMED = ("", "Unnamed: 0")


def is_number(cell: str) -> bool:
    """Whether a cell is a number as Python writes it, with a decimal point."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def is_whole(cell: str) -> bool:
    """Whether a cell is digits alone."""
    return _WHOLE.fullmatch(cell.strip()) is not None


def is_missing(cell: str) -> bool:
    """Whether a cell stands for a value that is not there."""
    return cell.strip().lower() in MISSING


def is_header(first: Sequence[str], second: Sequence[str], where: str) -> bool | None:
    """Return whether a table's first line is a header; None if only all other lines can tell.

    A line without numbers is one. So is a line with numbers where it could be nothing else: a name,
    or nothing in the first place, stands above a number, and all numbers in it are whole ones.

    Arguments:
        first, second: the cells of the first two lines; ``second`` may be empty.
        where: the table, for messages.

    Raises:
        DamagedInputError: the line holds nothing but missing values.
    """
    words = [i for i, cell in enumerate(first) if not is_number(cell)]
    if len(words) == len(first):
        if all(map(is_missing, first)):
            raise DamagedInputError(
                f"{where}: its first line holds missing values alone: leave it out, or say "
                "--header yes if these are names"
            )
        return True
    numbers = [cell for cell in first if is_number(cell)]
    named = all(map(is_whole, numbers)) and len(set(numbers)) == len(numbers)
    if not words:
        return None if named else False
    above_numbers = len(second) == len(first) and any(is_number(second[i]) for i in words)
    index = words == [0] and first[0].strip() == ""
    names = not any(is_missing(first[i]) or _LIKE_A_NUMBER.match(first[i]) for i in words)
    if not (named and above_numbers and (index or names)):
        return False
    if not index:
        _log.warning(
            "%s: its first line, %s, is taken for the names of columns; say --header no if it is "
            "values",
            *(where, show(",".join(first), 60)),
        )
    return True


def decide(first: Sequence[str], *, whole_below: bool, where: str) -> bool:
    """Return whether a first line of different whole numbers is a header.

    ``0,1,2,...`` (three or more) above values that are all written with a decimal point is what
    pandas writes for columns without names. Other such lines are data where whole numbers stand
    below too.

    Arguments:
        whole_below: some value below is digits alone.

    Raises:
        DamagedInputError: both readings are possible.
    """
    counted = list(first) == [str(i) for i in range(len(first))] and len(first) >= 3
    if counted and not whole_below:
        _log.warning(
            "%s: its first line, 0 to %d, is taken for the names of columns; say --header no if "
            "it is values",
            *(where, len(first) - 1),
        )
        return True
    if counted or not whole_below:
        raise DamagedInputError(
            f"{where}: its first line, {show(','.join(first), 60)}, may be names or values: say "
            "--header yes or --header no"
        )
    return False


def column_names(header: Sequence[str], width: int, where: str) -> tuple[str, ...] | None:
    """Return names for ``width`` columns, as pandas would; None if the header has other columns.

    Columns without a name are called ``Unnamed: I`` and a second ``a`` becomes ``a.1``. A header
    that is one name short belongs to a table whose first column is an index.
    """
    cells = [cell.strip() for cell in header]
    if len(cells) == width - 1:
        cells = ["", *cells]
    if len(cells) != width:
        _log.warning(
            "%s: its header has %d names for %d columns, so they stay without names",
            *(where, len(cells), width),
        )
        return None
    names: list[str] = []
    taken: set[str] = set()
    if any("\ufffd" in cell for cell in cells):
        _log.warning("%s: its names are not in UTF-8, some letters are lost: save it so", where)
    for i, cell in enumerate(cells):
        name = unique = cell[: LONGEST_NAME - 10] or f"Unnamed: {i}"
        count = 0
        while unique in taken:
            count += 1
            unique = f"{name}.{count}"
        if count:
            _log.warning("%s: a second column %s is called %s", where, show(name, 60), unique)
        taken.add(unique)
        names.append(unique)
    return tuple(names)


def is_unnamed(name: str) -> bool:
    """Whether a first column of that name may be an index that pandas wrote."""
    return name in _UNNAMED
