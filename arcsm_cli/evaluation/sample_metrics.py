"""Figures of samples that need no network: moments, and two distances to data.

The energy distance (Szekely & Rizzo 2013) and the sliced Wasserstein distance (Bonneel, Rabin,
Peyre & Pfister 2015).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 2048  # examples at a time
_VALUES = 1 << 21  # projections at a time: POT makes a dozen arrays of that size
_DIRECTIONS = 500


def moments(blocks: Iterable[Tensor]) -> dict[str, float]:
    """Return mean, standard deviation, minimum and maximum over all values of all blocks.

    Arguments:
        blocks: of any shapes, none of them empty.
    """
    count, mean, squares = 0, 0.0, 0.0  # squares: of deviations from the mean, summed
    least, most = math.inf, -math.inf
    for block in blocks:
        x = block.double()
        # Chan, Golub & LeVeque 1983: deviations from each block's own mean lose no digits.
        own = float(x.mean())
        total = count + x.numel()
        squares += float((x - own).square().sum())
        squares += (own - mean) ** 2 * count * x.numel() / total
        mean += (own - mean) * x.numel() / total
        count = total
        least, most = min(least, float(x.min())), max(most, float(x.max()))
    return {"mean": mean, "sd": math.sqrt(squares / count), "min": least, "max": most}


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples.

    Unbiased (pairs of one point with itself are left out), so it may be slightly negative for
    samples of one distribution; 0 in expectation exactly then.

    Arguments:
        x, y: (N, ...) and (M, ...), at least two each; examples are flattened.
    """
    x, y = x.flatten(1), y.flatten(1)
    n, m = len(x), len(y)
    cross = _sum_of_distances(x, y) / (n * m)
    within_x = _sum_within(x) / (n * (n - 1))
    within_y = _sum_within(y) / (m * (m - 1))
    return 2 * cross - within_x - within_y


class SlicedWasserstein(NamedTuple):
    """A sliced Wasserstein distance, in the units of the examples.

    Attributes:
        distance: root of the mean squared W2 distance along random directions.
        error: its standard error, over the directions alone; NaN for one of them or distance zero.
        floor: the distance that two sets of these sizes have by chance, see `sliced_wasserstein`.
    """

    distance: float
    error: float
    floor: float


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, directions: int = _DIRECTIONS, seed: int = 0
) -> SlicedWasserstein:
    """Return the sliced Wasserstein distance of order 2 of two samples.

    Both are projected on the same random unit vectors, and the squared W2 distances of the
    projections are averaged. Two finite samples of one distribution are never at distance zero:
    ``floor`` is the distance after x and y were shuffled together and dealt out anew in the same
    numbers (one draw of a permutation test), so a distance near it is as small as can be seen.

    Arguments:
        x, y: (N, ...) and (M, ...); examples are flattened.
        directions: how many unit vectors.
        seed: of the directions and of the shuffle.
    """
    pot, rng = _pot(), np.random.default_rng(seed)
    lines = rng.standard_normal((math.prod(x.shape[1:]), directions))
    lines /= np.linalg.norm(lines, axis=0)
    shuffled = rng.permutation(len(x) + len(y))
    width = max(1, _VALUES // len(shuffled))
    found, by_chance = [], []  # squared W2 distances along each direction
    for start in range(0, directions, width):
        both = _project([x, y], lines[:, start : start + width])
        found.append(pot.wasserstein_1d(both[: len(x)], both[len(x) :], p=2))
        both = both[shuffled]
        by_chance.append(pot.wasserstein_1d(both[: len(x)], both[len(x) :], p=2))
    squares = np.concatenate(found)
    distance, error = math.sqrt(squares.mean()), math.nan
    if directions > 1 and distance > 0:
        # The error of the mean square over twice the root: how errors pass through a root.
        error = float(squares.std(ddof=1) / math.sqrt(directions) / (2 * distance))
    return SlicedWasserstein(distance, error, math.sqrt(np.concatenate(by_chance).mean()))


def _sum_of_distances(x: Tensor, y: Tensor) -> float:
    """Return the sum over all pairs, of which no more than `_BLOCK` squared are held at a time."""
    # Direct differences for few dimensions: the matrix-product form cancels for near points.
    mode = "donot_use_mm_for_euclid_dist" if x.shape[1] <= 16 else "use_mm_for_euclid_dist"
    total = 0.0
    for rows in torch.split(x, _BLOCK):
        left = rows.double()
        for columns in torch.split(y, _BLOCK):
            total += float(torch.cdist(left, columns.double(), compute_mode=mode).sum())
    return total


def _sum_within(x: Tensor) -> float:
    """Return the sum over all ordered pairs of one set; each is computed in one order."""
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        total += _sum_of_distances(rows, rows)
        total += 2 * _sum_of_distances(rows, x[start + _BLOCK :])
    return total


def _project(sets: list[Tensor], lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all examples of sets (N, ...) along unit vectors (D, L), one below the other."""
    parts = (part for x in sets for part in torch.split(x.flatten(1), _BLOCK))
    return np.concatenate([part.double().numpy() @ lines for part in parts])


def _pot() -> Any:
    # POT imports every array library that is installed; those not used here take seconds, and
    # some write to stderr.
    for name in ("JAX", "CUPY", "TENSORFLOW"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    import ot

    return ot


def energy(x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Return `energy_distance` as a figure by its name."""
    return {"energy": energy_distance(x, y)}


def sliced(x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Return `sliced_wasserstein`, its error and its floor as figures by their names."""
    found = sliced_wasserstein(x, y, seed=seed)
    name = "sliced_wasserstein"
    return {name: found.distance, f"{name}_se": found.error, f"{name}_floor": found.floor}
