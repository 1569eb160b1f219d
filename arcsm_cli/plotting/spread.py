"""Repeats of a figure: their middle, with bars or a band over the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from arcsm_cli.comparisons.tables import Columns, where

_EXTREME = 1e30  # beyond it nothing is drawn: matplotlib's arithmetic would overflow


def draw_spread(
    axes: Axes,
    rows: Columns,
    x: str,
    y: str,
    label: str,
    style: Mapping[str, object],
    *,
    quartiles: bool = False,
    band: bool = False,
) -> None:
    """Draw medians of y by x, with bars or a band over the records of one x."""
    places = sorted(set(rows[x].tolist()))
    groups = [where(rows, **{x: place})[y] for place in places]
    kept = [(p, g[np.abs(g) < _EXTREME]) for p, g in zip(places, groups, strict=True)]
    kept = [(p, g) for p, g in kept if len(g)]
    if not kept:
        return
    at = np.array([p for p, _ in kept])
    low, middle, high = _quantiles([g for _, g in kept], quartiles)
    if band:
        axes.plot(at, middle, label=label, **style)  # type: ignore[arg-type]
        axes.fill_between(at, low, high, color=str(style["color"]), alpha=0.2, linewidth=0)
        return
    bars = np.stack([middle - low, high - middle])
    options = {"markersize": 4, "capsize": 2, "elinewidth": 1} | dict(style)
    axes.errorbar(at, middle, yerr=bars, label=label, **options)  # type: ignore[arg-type]


def _quantiles(groups: Sequence[NDArray[np.float64]], quartiles: bool) -> NDArray[np.float64]:
    levels = (0.25, 0.5, 0.75) if quartiles else (0.0, 0.5, 1.0)
    return np.array([np.quantile(g, levels) for g in groups]).T
