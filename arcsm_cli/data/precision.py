"""Which vectors single precision carries, and which have to stay in double."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FAR = 256.0
"""Standard deviations from zero beyond which a column is kept in double precision: single precision
would leave less than 16 bits of its spread."""

_SPACING = 2.0**-23  # of float32, relative to a value
_MERGED = 0.01  # share of a column's distinct values that may become equal
# A spacing, in standard deviations of a column, that no model can see, and one that it can.
_FINE, _COARSE = 2.0**-20, 2.0**-10


def narrowed(values: Tensor) -> Tensor:
    """Return vectors (N, D) as float32 where that carries every column, else as they are (float64).

    A column is carried if its mean is within `FAR` standard deviations of zero and its values do
    not run together (`merged_columns`), or if all its values are numbers of 32 bits.

    Example:
        >>> narrowed(torch.tensor([[0.1], [0.2]], dtype=torch.float64)).dtype
        torch.float32
        >>> narrowed(torch.tensor([[1e8 + 0.1], [1e8 + 0.2]], dtype=torch.float64)).dtype
        torch.float64
    """
    if values.dtype != torch.float64:
        return values
    single = values.float()
    # Only columns far from zero for their spread can lose anything; exact ones cannot.
    mean, sd = values.mean(0), values.std(0, unbiased=False)
    far = far_columns(mean, sd)
    rounded = [j for j in far.nonzero().flatten().tolist() if _rounds(values[:, j])]
    return values if rounded or merged_columns(values) else single


def far_columns(mean: Tensor, sd: Tensor) -> Tensor:
    """Return which columns (D,) lie beyond `FAR` of their standard deviations from zero."""
    return (mean.abs() > FAR * sd) & (sd > 0)


def merged_columns(values: Tensor) -> list[int]:
    """Return the columns of vectors (N, D) whose distinct values float32 does not tell apart.

    Those of which rounding makes more than one distinct value in a hundred equal to another, where
    the spacing of float32 is more than a thousandth of the column's standard deviation. For whole
    numbers, such as time stamps, a millionth is enough: they lie on a grid that is lost.
    """
    if values.dtype != torch.float64:
        return []
    sd, most = values.std(0, unbiased=False), values.abs().amax(0)
    whole = (values == values.round()).all(0)
    return merged_among(sd, most, whole, lambda j: values[:, j])


def merged_among(
    sd: Tensor, most: Tensor, whole: Tensor, column: Callable[[int], Tensor]
) -> list[int]:
    """Return the same of columns of which only these are known, each (D,).

    Arguments:
        sd, most: the standard deviation, and the largest magnitude.
        whole: whether all values are whole numbers.
        column: gives the values of those that are in doubt, (N,) float64.
    """
    spacing = most * _SPACING
    coarse = (spacing > _FINE * sd) & (sd > 0)
    coarse &= (spacing > _COARSE * sd) | whole
    return [j for j in coarse.nonzero().flatten().tolist() if _merges(column(j).numpy())]


def _rounds(column: Tensor) -> bool:
    return bool((column.float().double() != column).any())


def _merges(column: NDArray[np.float64]) -> bool:
    distinct = np.unique(column)
    # Sorted values stay sorted when they are rounded.
    left = 1 + np.count_nonzero(np.diff(distinct.astype(np.float32)))
    return bool(left < (1 - _MERGED) * len(distinct))
