"""JSON in files: canonical when written, bounded and strict when read."""

import json
import math
import re
from typing import Any, NoReturn

_MARK = re.compile(r'\\.|["\[\]{},]', re.DOTALL)
_DIGITS = 300  # of a whole number, which then fits a float


class JSONError(ValueError):
    """The text is not JSON, or exceeds the bounds; the message completes "``it`` ..."."""


def dump(value: Any) -> str:
    """``value`` as canonical JSON in ASCII: sorted keys, no spaces, equal text for equal content.

    Raises:
        ValueError: it holds NaN or infinity, which JSON cannot express.
        TypeError: it holds something else that JSON cannot express.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(
    text: str, *, size: int, depth: int = 32, items: int = 500_000, values: int = 1_000_000
) -> Any:
    """Parse untrusted JSON.

    Args:
        text: the JSON text.
        size: most characters allowed.
        depth: most levels of nesting allowed.
        items: most objects and arrays allowed, since each takes far more memory than its text.
        values: most commas allowed, for the same reason.

    Raises:
        JSONError: out of bounds, malformed, repeating a key, or holding NaN, infinity or a number
            that no float can hold.
    """
    if len(text) > size:
        raise JSONError(f"is longer than {size} characters")
    _check_nesting(text, depth, items, values)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except JSONError:
        raise
    except (ValueError, RecursionError) as error:
        raise JSONError("is not valid JSON") from error


def _check_nesting(text: str, depth: int, items: int, values: int) -> None:
    level = seen = commas = 0
    quoted = False
    for match in _MARK.finditer(text):
        mark = match.group()
        if mark == '"':
            quoted = not quoted
        elif quoted or mark[0] == "\\":
            continue
        elif mark in "[{":
            level += 1
            seen += 1
            if level > depth:
                raise JSONError(f"is nested deeper than {depth} levels")
            if seen > items:
                raise JSONError(f"holds more than {items} objects and arrays")
        elif mark == ",":
            commas += 1
            if commas > values:
                raise JSONError(f"holds more than {values} values")
        else:
            level -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise JSONError("repeats a key")
    return result


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise JSONError("holds a number that is too large")
    return value


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise JSONError("holds a number that is too large")
    return int(text)


def _refuse_constant(constant: str) -> NoReturn:
    raise JSONError(f"holds {constant}")
