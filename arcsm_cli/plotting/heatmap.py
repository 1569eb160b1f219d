"""Densities of models as figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arcsm_cli.plotting.figure import BLUE, PALETTE, add_grid, title
from arcsm_cli.plotting.window import Window

if TYPE_CHECKING:
    from arcsm_cli.plotting.density import ModelDensity, Slices

Scale = Literal["density", "nats"]

_DEPTH = 16.0  # nats below the peak that a logarithmic scale shows
_DASHES = ("-", "--", "-.", ":", "-")  # curves that coincide are still told apart
# From white to blue, light enough all along for points to be seen on it.
PALE = LinearSegmentedColormap.from_list("pale", ["#FFFFFF", "#BCD9EF", "#6FB0DD", "#2E7CB8"])


def draw_density(
    figure: Figure, density: ModelDensity, scale: Scale = "density", slices: Slices | None = None
) -> None:
    """Draw a model's density: a curve, or a heat map with a bar that tells its colours.

    Arguments:
        density: of one or two variables.
        scale: densities, or their logarithms in nats.
        slices: drawn as curves under the heat map, and as lines on it.
    """
    if len(density.windows) == 1:
        axes = figure.add_subplot()
        draw_curve(axes, density, scale)
        axes.set_xlim(density.windows[0])
        label_1d(axes, scale, density.log_density)
    elif slices is None:
        axes = figure.add_subplot()
        draw_surface(figure, axes, density, scale)
    else:
        axes, below = figure.subplots(2, 1, height_ratios=(5, 2))
        draw_surface(figure, axes, density, scale)
        _draw_slices(axes, below, slices, scale)
    title(axes, f"Density of {density.text}")


def draw_curve(axes: Axes, density: ModelDensity, scale: Scale, color: str = BLUE) -> None:
    """Draw a density of one variable as a curve."""
    x = np.linspace(*density.windows[0], len(density.log_density))
    axes.plot(x, heights(density.log_density, scale), color=color, label="model")


def draw_surface(
    figure: Figure,
    axes: Axes,
    density: ModelDensity,
    scale: Scale,
    cmap: str | Colormap = "magma",
    norm: Normalize | None = None,
) -> None:
    """Draw a density of two variables as a heat map with its colour bar."""
    (left, right), (bottom, top) = density.windows
    half_x, half_y = (
        (high - low) / (count - 1) / 2
        for (low, high), count in zip(density.windows, density.log_density.shape, strict=True)
    )
    values = heights(density.log_density, scale)
    if scale == "nats":
        values = np.maximum(values, extent(values, scale)[0])
    image = axes.imshow(
        values.T,
        extent=(left - half_x, right + half_x, bottom - half_y, top + half_y),
        origin="lower",
        aspect="auto",
        cmap=cmap,
        norm=norm,
        interpolation="bicubic" if scale == "density" else "bilinear",
        interpolation_stage="data",
    )
    # Within the axes' own box, whose shape the data decide, it stays beside them.
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.03, 1.0)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(_name(scale, squared=True))
    frame_2d(axes, density.windows)


def frame_2d(axes: Axes, windows: list[Window]) -> None:
    """Label the axes of two variables; one scale for both, unless that would squeeze one."""
    axes.set_xlim(windows[0])
    axes.set_ylim(windows[1])
    axes.set_xlabel("$x_1$ (file units)")
    axes.set_ylabel("$x_2$ (file units)")
    axes.tick_params(length=0)
    axes.locator_params(nbins=6)
    sides = [high - low for low, high in windows]
    if max(sides) < 3 * min(sides):
        axes.set_aspect("equal")


def label_1d(axes: Axes, scale: Scale, log_density: NDArray[np.float64]) -> None:
    """Label the axes of a density of one variable, and make them as high as it needs."""
    axes.set_xlabel("$x$ (file units)")
    axes.set_ylabel(_name(scale, squared=False))
    axes.set_ylim(*extent(log_density, scale))
    add_grid(axes)


def extent(log_density: NDArray[np.float64], scale: Scale) -> Window:
    """Ends of an axis along which log-densities, or densities, are drawn as curves."""
    peak = float(log_density.max())
    if not math.isfinite(peak):  # far from all mass
        return 0.0, 1.0
    if scale == "density":
        return 0.0, 1.05 * math.exp(peak)
    return max(float(log_density.min()), peak - _DEPTH), peak + 0.05 * _DEPTH


def _draw_slices(axes: Axes, below: Axes, slices: Slices, scale: Scale) -> None:
    given, other = slices.given + 1, 2 - slices.given
    curves = heights(slices.log_density, scale)
    line = axes.axvline if slices.given == 0 else axes.axhline
    for i, value in enumerate(slices.values):
        color = PALETTE[1:][i]  # the first one is hard to see on a dark heat map
        line(value, color=color, linewidth=1.0)
        name = f"$x_{given}$ = {value:g}".replace("-", "\N{MINUS SIGN}")
        below.plot(slices.points, curves[i], _DASHES[i], color=color, label=name)
    below.set_xlim(slices.points[0], slices.points[-1])
    below.set_xlabel(f"$x_{other}$ (file units)")
    what = "density" if scale == "density" else "log-density\n(nats)"
    below.set_ylabel(f"{what} of $x_{other}$\ngiven $x_{given}$")
    below.set_ylim(*extent(slices.log_density, scale))
    below.legend(loc="upper left", bbox_to_anchor=(1, 1))
    add_grid(below)


def heights(log_density: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """What a figure shows of log-densities in nats."""
    return np.exp(log_density) if scale == "density" else log_density


def _name(scale: Scale, *, squared: bool) -> str:
    if scale == "nats":
        return "log-density (nats)"
    return "density (per file unit squared)" if squared else "density (per file unit)"
