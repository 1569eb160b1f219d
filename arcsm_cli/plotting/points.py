"""Vectors as figures: histograms, scatter plots, scatter matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arcsm_cli.plotting.figure import BLUE, PALE_BLUE, VERMILION, add_grid, title
from arcsm_cli.plotting.heatmap import (
    PALE,
    Scale,
    draw_curve,
    draw_surface,
    frame_2d,
    heights,
    label_1d,
)
from arcsm_cli.plotting.window import Window, outside, window

if TYPE_CHECKING:
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.plotting.density import ModelDensity

MATRIX = 5  # most variables of a scatter matrix
_MOST_BINS = 80
_BLOCK_VALUES = 1 << 22  # of samples, in memory at a time


def read_points(samples: SampleFile, count: int) -> NDArray[np.float32]:
    """The first ``count`` samples of a file of vectors, of each no more than a figure shows."""
    block = max(1, _BLOCK_VALUES // samples.shape[0])
    stop = min(count, len(samples))
    parts = [samples.read(i, min(i + block, stop))[:, :MATRIX] for i in range(0, stop, block)]
    return np.concatenate(parts)


def windows_of(x: NDArray[Any]) -> list[Window]:
    """The axes' ends for points ``x`` (N, D)."""
    return [window(column) for column in x.T]


def draw_points(
    figure: Figure,
    points: NDArray[np.float32],
    *,
    total: int,
    dimensions: int,
    density: ModelDensity | None = None,
    scale: Scale = "density",
) -> None:
    """Draw points: a histogram, a scatter plot, or a scatter matrix of the first variables.

    Arguments:
        points: (N, D) in file units, N at least 1, D at most `MATRIX`.
        total: how many points the file holds.
        dimensions: how many variables they have in the file.
        density: a model's, to be drawn with points of one or two variables.
        scale: of the density.
    """
    x = points.astype(np.float64)
    windows = windows_of(x) if density is None else density.windows
    text = _count(x, windows, total)
    if x.shape[1] > 2:
        _draw_matrix(figure, x, windows, f"{text}\n{_of(dimensions)}")
        return
    axes = figure.add_subplot()
    if x.shape[1] == 1:
        _draw_histogram(axes, x, windows[0], density, scale)
    else:
        if density is not None:
            norm = PowerNorm(0.5) if scale == "density" else None  # what lies between peaks shows
            draw_surface(figure, axes, density, scale, PALE, norm)
        frame_2d(axes, windows)
        if density is None:
            add_grid(axes)
        _scatter(axes, x, BLUE if density is None else VERMILION, 1 if density is None else 2.5)
    title(axes, text if density is None else f"{text} over the density of {density.text}")


def _draw_histogram(
    axes: Axes,
    points: NDArray[np.float64],
    ends: Window,
    density: ModelDensity | None,
    scale: Scale,
) -> None:
    edges, counts = _histogram(points[:, 0], ends)
    with np.errstate(divide="ignore"):  # empty bins
        logs = np.log(counts)
    shown = logs[logs > -np.inf]
    if density is not None:
        shown = np.append(shown, density.log_density)
    label_1d(axes, scale, shown)
    low, high = axes.get_ylim()
    bars = np.maximum(heights(logs, scale), low)
    axes.stairs(bars, edges, baseline=low, fill=True, color=PALE_BLUE, label="samples")
    axes.set_xlim(ends)
    if density is not None:
        draw_curve(axes, density, scale, VERMILION)
        axes.set_ylim(low, high + 0.15 * (high - low))
        axes.legend(loc="upper center", ncols=2)


def _draw_matrix(
    figure: Figure, points: NDArray[np.float64], windows: list[Window], text: str
) -> None:
    count = points.shape[1]
    grid = figure.subplots(count, count, sharex="col", squeeze=False)
    for i in range(count):
        for j in range(count):
            axes: Axes = grid[i, j]
            if j > i:
                axes.set_visible(False)
                continue
            axes.set_xlim(windows[j])
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize="small")
            add_grid(axes)
            if i == j:
                edges, counts = _histogram(points[:, i], windows[i])
                axes.stairs(counts, edges, fill=True, color=PALE_BLUE)
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
            else:
                _scatter(axes, points[:, [j, i]], BLUE, small=count)
                axes.set_ylim(windows[i])
            if j > 0 or i == 0:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel(f"$x_{{{i + 1}}}$")
            if i == count - 1:
                axes.set_xlabel(f"$x_{{{j + 1}}}$")
    figure.align_labels()
    figure.text(0.98, 0.97, text, ha="right", va="top")


def _histogram(
    values: NDArray[np.float64], ends: Window
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges (B + 1,) and heights (B,), the share of all values in a bin per file unit."""
    bins = int(np.clip(2 * len(values) ** (1 / 3), 8, _MOST_BINS))  # Rice's rule
    counts, edges = np.histogram(values, bins=bins, range=ends)
    return edges, counts / (len(values) * np.diff(edges))


def _scatter(axes: Axes, points: NDArray[np.float64], color: str, small: float = 1.0) -> None:
    size = float(np.clip(12000 / len(points), 2.5, 14.0)) / small
    # As pixels in vector formats too: thousands of shapes are slow to show and large.
    axes.scatter(
        points[:, 0], points[:, 1], s=size, color=color, alpha=0.6, linewidths=0, rasterized=True
    )


def _count(points: NDArray[np.float64], windows: list[Window], total: int) -> str:
    count = len(points)
    text = f"{count:,} samples" if count == total else f"the first {count:,} of {total:,} samples"
    if beyond := outside(points, windows):
        text += f", {beyond:,} of them outside the axes"
    return text if count != 1 else text.replace("samples", "sample")


def _of(dimensions: int) -> str:
    if dimensions <= MATRIX:
        return f"{dimensions} variables, file units"
    return f"the first {MATRIX} of {dimensions:,} variables, file units"
