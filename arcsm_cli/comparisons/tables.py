"""Records of an experiment, and the same as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Record = dict[str, str | float]
"""One measurement: texts that say what was measured, and numbers."""

Columns = Mapping[str, NDArray[Any]]
"""A table of N records: (N,) texts or (N,) float64 by name."""

_T = TypeVar("_T")
Track = Callable[[Sequence[_T]], Iterator[_T]]
"""Hands out the parts of an experiment one after another and shows how many are done."""


def columns(records: Sequence[Record]) -> dict[str, NDArray[Any]]:
    """Return records of equal keys as columns.

    Raises:
        ValueError: the keys differ.

    Example:
        >>> columns([{"method": "csm", "loss": 1}, {"method": "dsm", "loss": 2}])["loss"]
        array([1., 2.])
    """
    names = list(records[0]) if records else []
    if any(list(record) != names for record in records):
        raise ValueError(f"records of one table differ in their keys: {names}")
    return {
        name: np.array(
            [record[name] for record in records],
            dtype=None if isinstance(records[0][name], str) else np.float64,
        )
        for name in names
    }


def where(table: Columns, **values: str | float) -> dict[str, NDArray[Any]]:
    """Return the rows of a table that have these values.

    Example:
        >>> where({"seed": np.array([0.0, 1.0]), "loss": np.array([3.0, 4.0])}, seed=1)["loss"]
        array([4.])
    """
    chosen = np.ones(len(next(iter(table.values()), ())), bool)
    for name, value in values.items():
        chosen &= table[name] == value
    return {name: column[chosen] for name, column in table.items()}


def deviation(values: Sequence[float] | NDArray[Any]) -> float:
    """Return the standard deviation of repeats: unbiased in its square, 0 for a single one.

    Example:
        >>> deviation([1.0, 3.0, 5.0]), deviation([1.0])
        (2.0, 0.0)
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def distinct(column: NDArray[Any]) -> list[Any]:
    """Return the values of a column, each once, in the order of their first appearance.

    Example:
        >>> distinct(np.array(["sm", "csm", "sm"]))
        ['sm', 'csm']
    """
    return list(dict.fromkeys(column.tolist()))
