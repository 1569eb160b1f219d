"""Figures of samples: moments, and the energy distance to data (Szekely & Rizzo 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 1024


def moments(x: Tensor) -> dict[str, float]:
    """Return mean, standard deviation, minimum and maximum over all values of x (N, ...)."""
    return {
        "mean": float(x.double().mean()),
        "sd": float(x.double().std(unbiased=False)),
        "min": float(x.min()),
        "max": float(x.max()),
    }


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples.

    Unbiased (pairs of one point with itself are left out), so it may be slightly negative for
    samples of one distribution; 0 in expectation exactly then.

    Arguments:
        x, y: (N, ...) and (M, ...), at least two each; examples are flattened.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    n, m = len(x), len(y)
    cross = _sum_of_distances(x, y) / (n * m)
    within_x = _sum_of_distances(x, x) / (n * (n - 1))
    within_y = _sum_of_distances(y, y) / (m * (m - 1))
    return 2 * cross - within_x - within_y


def _sum_of_distances(x: Tensor, y: Tensor) -> float:
    # Direct differences for few dimensions: the matrix-product form cancels for near points.
    mode = "donot_use_mm_for_euclid_dist" if x.shape[1] <= 16 else "use_mm_for_euclid_dist"
    starts = range(0, len(x), _BLOCK)
    return sum(float(torch.cdist(x[i : i + _BLOCK], y, compute_mode=mode).sum()) for i in starts)
