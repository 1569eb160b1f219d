"""Examples that are known in part: NaN stands for what is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.arrays import is_npy, read_npy
from arcsm_cli.data.tables import read_table
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, local_input, show


def read_known(
    source: str | os.PathLike[str], shape: tuple[int, ...], columns: Sequence[str]
) -> Tensor:
    """Return examples (N, *shape), float64 in file units, with NaN for what is not known.

    Arguments:
        source: a path or ``-``: a table in text, whose columns are some or all of the model's by
            their names (or all of them without names), and whose empty cells are unknown; or an
            .npy file of numbers, N examples or one, with NaN for the unknown.
        shape: of an example.
        columns: the names of the model's columns, if it has any.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is no such table or array.
        UsageError: it says something of columns that the model does not have.
    """
    where = label(source)
    with local_input(source) as path:
        is_array = is_npy(path)
        if not is_array and len(shape) > 1:
            raise UsageError(
                f"--known {where}: of images, give an .npy file with NaN for the unknown"
            )
        values = _array(path, shape) if is_array else _table(path, shape[0], columns)
    if bool(values.isinf().any()):
        raise DamagedInputError(f"{where}: holds infinite values")
    return values


def _array(path: Path, shape: tuple[int, ...]) -> Tensor:
    array = read_npy(path)
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or not len(array) or array.dtype.kind not in "fiu":
        found, wanted = (" x ".join(map(str, s)) for s in (array.shape, shape))
        raise DamagedInputError(f"{label(path)}: holds {found} numbers, examples are {wanted}")
    return torch.from_numpy(np.ascontiguousarray(array, np.float64))


def _table(path: Path, width: int, columns: Sequence[str]) -> Tensor:
    table = read_table(path, gaps=True)
    if table.columns is None or not columns:
        if table.values.shape[1] != width:
            raise DamagedInputError(
                f"{label(path)}: has {table.values.shape[1]} columns, the model has {width}"
            )
        return table.values
    values = table.values.new_full((len(table.values), width), torch.nan)
    for i, name in enumerate(table.columns):
        if name not in columns:
            raise UsageError(
                f"--known {label(path)}: the model has no column {show(name, 60)}; it has "
                f"{show(', '.join(columns[:20]), 300)[1:-1]}"
            )
        values[:, columns.index(name)] = table.values[:, i]
    return values
