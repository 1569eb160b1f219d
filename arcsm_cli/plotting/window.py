"""How far axes reach."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]  # the ends of an axis, lower first

_TAIL = 0.001  # share of the values, at either end, that cannot stretch an axis by themselves


def window(values: NDArray[Any]) -> Window:
    """Ends of an axis for ``values`` (N), N at least 1, finite.

    All values lie inside, except for a few that are so far away that they would leave the others
    a corner of the figure.

    Example:
        >>> low, high = window(np.append(np.linspace(0, 1, 5000), 1e6))
        >>> -0.1 < low < 0 and 1 < high < 1.5
        True
    """
    values = values.astype(np.float64)
    ends = np.quantile(values, [_TAIL, 1 - _TAIL])
    reach = (ends[1] - ends[0]) / 4
    low = max(float(values.min()), float(ends[0] - reach))
    high = min(float(values.max()), float(ends[1] + reach))
    pad = 0.04 * (high - low) or 0.05 * abs(low) or 0.5
    return low - pad, high + pad


def outside(values: NDArray[Any], windows: list[Window]) -> int:
    """How many rows of ``values`` (N, D) lie outside the windows of the D columns."""
    low, high = np.transpose(windows)
    return int(((values < low) | (values > high)).any(axis=1).sum())
