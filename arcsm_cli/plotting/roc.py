"""Out-of-distribution scores of several sets: their histograms and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arcsm_cli.evaluation.detection import separations
from arcsm_cli.evaluation.ood import STATISTICS, towards_training_data
from arcsm_cli.plotting.figure import INK, PALETTE, add_grid

Values = NDArray[np.float64]

MOST_STATISTICS = 8
MOST_SETS = len(PALETTE) - 1  # that are told from the first one, each in a colour
ROW = 2.9  # inches that a statistic takes

_WIDE = 5.0  # inches, in which two panels have room
_BINS = 50
_SHOWN = (0.01, 0.99)  # quantiles of each set that a histogram reaches to
_SPREAD = 10.0  # an axis is broken where sets lie so many times their own widths apart
_MOST = 1e30  # no finite figure is beyond it, and matplotlib's arithmetic holds
_POINTS = 2000  # of a curve


def draw_scores(
    figure: Figure, inside: tuple[str, Mapping[str, Values]], outside: Mapping[str, Any]
) -> None:
    """Draw for each statistic its histograms and beside them, or in a narrow figure below, its ROC
    curves.

    Arguments:
        inside: the in-distribution set's name and its values, (P,) by statistic, at most
            `MOST_STATISTICS`.
        outside: by name, at most `MOST_SETS`, the values of the same statistics, (N,) each.
    """
    name, values = inside
    across = 2 if figure.get_figwidth() >= _WIDE else 1
    panels = figure.subplots(2 * len(values) // across, across, squeeze=False)
    rows = panels.reshape(len(values), 2)
    towards = {key: towards_training_data(key, v) for key, v in values.items()}
    others = {
        which: {key: towards_training_data(key, found[key]) for key in values}
        for which, found in outside.items()
    }
    found = separations(towards, others, draws=0)
    for (left, right), key in zip(rows, values, strict=True):
        sets = {name: values[key]} | {which: found_[key] for which, found_ in outside.items()}
        draw_histograms(left, sets)
        like = "higher" if STATISTICS[key] == "higher" else "lower"
        left.set_xlabel(f"{key} ({like}: like training data)")
        for (which, negative), color in zip(others.items(), PALETTE[1:], strict=False):
            text = f"{which}: {found[key][which].auroc.value:.3f}"
            _draw_curve(right, towards[key], negative[key], color, text)
        _finish_curves(right)
    rows[0][0].set_title("share of each set")
    rows[0][1].set_title("ROC curves, with their areas")
    rows[0][0].legend(fontsize="small")


def draw_histograms(axes: Axes, sets: Mapping[str, Values]) -> None:
    """Draw how each of at most `MOST_SETS` + 1 sets of values, (N,) by name, is distributed."""
    edges, nonlinear = _edges(list(sets.values()))
    if nonlinear:
        axes.set_xscale("asinh", linear_width=nonlinear)
        # The scale's own ticks crowd about zero.
        ticks = sorted({float(f"{edge:.1g}") for edge in edges[4 :: (_BINS - 4) // 3]})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    else:
        axes.locator_params(axis="x", nbins=4)
    for (which, values), color in zip(sets.items(), PALETTE, strict=False):
        inside = np.clip(values, edges[0], edges[-1])  # what lies beyond counts in the last bin
        heights = np.histogram(inside, edges)[0] / len(values)
        axes.stairs(heights, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(heights, edges, color=color, label=which, linewidth=1.2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.locator_params(axis="y", nbins=4)
    add_grid(axes)


def _edges(sets: list[Values]) -> tuple[Values, float]:
    """Bins that hold nearly all of each set, and where a logarithmic axis begins (0: nowhere).

    Sets far apart would each be a line on a linear axis: there the axis is linear about zero, as
    wide as the narrowest set, and logarithmic beyond.
    """
    finite = [np.clip(values[np.isfinite(values)], -_MOST, _MOST) for values in sets]
    quantiles = np.array([np.quantile(v, _SHOWN) for v in finite if len(v)])
    if not len(quantiles):
        return np.array([0.0, 1.0]), 0.0
    low, high = float(quantiles[:, 0].min()), float(quantiles[:, 1].max())
    width = float(np.diff(quantiles).min())
    if high <= low:
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    if width <= 0 or high - low < _SPREAD * width:
        return np.linspace(low, high, _BINS + 1), 0.0
    start = max(width, abs(quantiles[0]).max() / 4)  # the first set's own place stays linear
    begin, end = np.arcsinh(low / start), np.arcsinh(high / start)
    return start * np.sinh(np.linspace(begin, end, _BINS + 1)), start


def _draw_curve(axes: Axes, positives: Values, negatives: Values, color: str, text: str) -> None:
    from sklearn.metrics import roc_curve

    _, ranks = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    truth = np.repeat([1, 0], [len(positives), len(negatives)])
    false, true, _ = roc_curve(truth, ranks)
    if len(false) > _POINTS:
        kept = np.linspace(0, len(false) - 1, _POINTS).round().astype(int)
        false, true = false[kept], true[kept]
    axes.plot(false, true, color=color, label=text, clip_on=False)


def _finish_curves(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_box_aspect(1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend(loc="lower right", fontsize="small")
    add_grid(axes)
