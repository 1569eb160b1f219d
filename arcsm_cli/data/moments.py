"""Mean, spread and range of all examples of a data set, in double precision, block by block."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset

_VALUES = 1 << 22  # of the examples, held in double precision at a time


class Moments(NamedTuple):
    """Of each of D columns, (D,) float64.

    Attributes:
        mean, sd: over all rows; ``sd`` is exactly 0 where all rows are equal but for the rounding
            of double precision.
        low, high: the smallest and the largest value.
    """

    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor


def moments_of(data: Dataset) -> Moments:
    """Return the moments of each column of vectors, or of all values of images together (D = 1)."""
    size = max(1, _VALUES // math.prod(data.shape))
    return moments(_columns(data, size))


def _columns(data: Dataset, size: int) -> Iterator[Tensor]:
    for batch in data.batches(size):
        yield batch.x if data.kind == "vector" else batch.x.reshape(-1, 1)


def moments(blocks: Iterable[Tensor]) -> Moments:
    """Return the moments of the columns of blocks (N, D), at least one row in all.

    Blocks are merged by their deviations from their own means (Chan, Golub & LeVeque 1983), which
    loses no digits however far the mean is from zero.

    Example:
        >>> low, high = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])
        >>> found = moments([low, high])
        >>> found.mean.item(), round(found.sd.item() ** 2, 6)
        (2.0, 0.666667)
    """
    count = 0
    for block in blocks:
        x = block.double()
        n, m, v = len(x), x.mean(0), x.var(0, unbiased=False)
        if count == 0:
            mean, variance, low, high = m, v, x.amin(0), x.amax(0)
        else:
            total = count + n
            variance = (variance * count + v * n) / total
            variance += (m - mean).square() * (count / total) * (n / total)
            mean = mean + (m - mean) * (n / total)
            low, high = torch.minimum(low, x.amin(0)), torch.maximum(high, x.amax(0))
        count += n
    sd = variance.sqrt()
    rounding = 8 * torch.finfo(torch.float64).eps * torch.maximum(low.abs(), high.abs())
    return Moments(mean, torch.where(sd > rounding, sd, 0.0), low, high)
