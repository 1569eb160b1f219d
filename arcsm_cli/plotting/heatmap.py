"""Densities of models as figures."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from arcsm_cli.plotting.density import ModelDensity, Slices
from arcsm_cli.plotting.figure import BLUE, PALETTE, add_grid
from arcsm_cli.plotting.window import Window

Scale = Literal["density", "nats"]

_DEPTH = 16.0  # nats below the peak that a logarithmic scale shows
# From white to blue, light enough all along for points to be seen on it.
PALE = LinearSegmentedColormap.from_list("pale", ["#FFFFFF", "#CFE1F2", "#8DBFE3", "#4A90C8"])


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
        label_1d(axes, scale)
    elif slices is None:
        axes = figure.add_subplot()
        draw_surface(figure, axes, density, scale, "magma")
    else:
        axes, below = figure.subplots(2, 1, height_ratios=(5, 2))
        draw_surface(figure, axes, density, scale, "magma")
        _draw_slices(axes, below, slices, scale)
    axes.set_title(f"Density of {density.text}")


def draw_curve(axes: Axes, density: ModelDensity, scale: Scale, color: str = BLUE) -> None:
    """Draw a density of one variable as a curve."""
    x = np.linspace(*density.windows[0], len(density.log_density))
    axes.plot(x, scaled(density.log_density, scale), color=color, label="model")


def draw_surface(
    figure: Figure, axes: Axes, density: ModelDensity, scale: Scale, cmap: str | Colormap
) -> AxesImage:
    """Draw a density of two variables as a heat map with its colour bar."""
    (left, right), (bottom, top) = density.windows
    half_x, half_y = (
        (high - low) / (count - 1) / 2
        for (low, high), count in zip(density.windows, density.log_density.shape, strict=True)
    )
    image = axes.imshow(
        scaled(density.log_density, scale).T,
        extent=(left - half_x, right + half_x, bottom - half_y, top + half_y),
        origin="lower",
        aspect="auto",
        cmap=cmap,
        interpolation="bicubic" if scale == "density" else "bilinear",
    )
    bar = figure.colorbar(image, ax=axes, shrink=0.9, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(_name(scale, squared=True))
    frame_2d(axes, density.windows)
    return image


def frame_2d(axes: Axes, windows: list[Window]) -> None:
    """Label the axes of two variables; one scale for both, unless that would squeeze one."""
    axes.set_xlim(windows[0])
    axes.set_ylim(windows[1])
    axes.set_xlabel("$x_1$ (file units)")
    axes.set_ylabel("$x_2$ (file units)")
    axes.tick_params(length=0)
    sides = [high - low for low, high in windows]
    if max(sides) < 3 * min(sides):
        axes.set_aspect("equal")


def label_1d(axes: Axes, scale: Scale) -> None:
    """Label the axes of a density of one variable."""
    axes.set_xlabel("$x$ (file units)")
    axes.set_ylabel(_name(scale, squared=False))
    if scale == "density":
        axes.set_ylim(bottom=0)
    add_grid(axes)


def _draw_slices(axes: Axes, below: Axes, slices: Slices, scale: Scale) -> None:
    given, other = slices.given + 1, 2 - slices.given
    line = axes.axvline if slices.given == 0 else axes.axhline
    colors = PALETTE[1:]  # the first one is hard to see on a dark heat map
    for value, log_p, color in zip(slices.values, slices.log_density, colors, strict=False):
        line(value, color=color, linewidth=1.2)
        name = f"$x_{given}$ = {value:g}".replace("-", "\N{MINUS SIGN}")
        below.plot(slices.points, scaled(log_p, scale), color=color, label=name)
    below.set_xlim(slices.points[0], slices.points[-1])
    below.set_xlabel(f"$x_{other}$ (file units)")
    what = "density" if scale == "density" else "log-density\n(nats)"
    below.set_ylabel(f"{what} of $x_{other}$\ngiven $x_{given}$")
    if scale == "density":
        below.set_ylim(bottom=0)
    below.legend(loc="upper left", bbox_to_anchor=(1, 1))
    add_grid(below)


def scaled(log_density: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """What a figure shows of log-densities in nats; -inf becomes the bottom of the scale."""
    if scale == "density":
        return np.exp(log_density)
    peak = max(float(log_density.max()), -1e30)  # may be -inf, far from all mass
    return np.maximum(log_density, peak - _DEPTH)


def _name(scale: Scale, *, squared: bool) -> str:
    if scale == "nats":
        return "log-density (nats)"
    return "density (per file unit squared)" if squared else "density (per file unit)"
