"""One look for all figures, and files that depend on nothing but what is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from arcsm_cli.errors import UsageError

WIDTH = 6.0  # inches
DPI = 150  # 900 pixels wide; letters stay legible at two thirds of that
_LARGE = 250_000  # bytes of a PNG, above which its colours are reduced to 256
# The colours of Okabe and Ito, which people of all kinds of colour vision tell apart.
BLUE, VERMILION = "#0072B2", "#D55E00"
PALE_BLUE = "#9DC3E0"
PALETTE = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GRID = "#333333", "#E4E4E4"

# What a format would record of when and by what it was written.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "agg.path.chunksize": 10000,  # the longest line may not overflow the renderer
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "arcsm",
}


def figure_format(output: str) -> str:
    """The format of a figure by the ending of its name: ``png``, ``pdf`` or ``svg``.

    Standard output, ``-``, takes PNG.

    Raises:
        UsageError: the ending is another one.

    Example:
        >>> figure_format("samples.PDF")
        'pdf'
    """
    ending = PurePath(output).suffix.lower().removeprefix(".")
    if output == "-":
        return "png"
    if ending not in _METADATA:
        raise UsageError(f"--output {output}: expected a name that ends with .png, .pdf or .svg")
    return ending


@contextmanager
def new_figure(width: float, height: float, **options: Any) -> Iterator[Figure]:
    """A figure to draw on and save within the context, whatever the user's matplotlibrc says.

    Arguments:
        width, height: in inches.
        options: further ones of `matplotlib.figure.Figure`.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), dpi=DPI, **options)
        FigureCanvasAgg(figure)
        yield figure


def write_figure(
    draw: Callable[[Figure], None],
    path: Path,
    kind: str,
    *,
    height: float = 4.5,
    width: float = WIDTH,
) -> None:
    """Write what ``draw`` draws to ``path``; equal figures give equal bytes.

    Arguments:
        draw: is given a figure whose parts arrange themselves.
        kind: see `figure_format`.
        height, width: in inches.

    Raises:
        OSError: the system refused to write.
    """
    with new_figure(width, height, layout="constrained") as figure:
        draw(figure)
        save(figure, path, kind)


def save(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure made by `new_figure`, within its context."""
    if kind != "png":
        figure.savefig(path, format=kind, dpi=DPI, metadata=_METADATA[kind])
        return
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata=_METADATA[kind])
    with Image.open(buffer) as image:
        pixels = image.convert("RGB")
    small = BytesIO()
    pixels.save(small, format="PNG", optimize=True)
    if small.tell() > _LARGE:  # smooth colours with dots on them compress badly
        small = BytesIO()
        reduced = pixels.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(small, format="PNG", optimize=True)
    path.write_bytes(small.getvalue())


def add_grid(axes: Axes) -> None:
    """Light lines behind the data, and ticks without marks."""
    axes.grid(True)
    axes.tick_params(length=0)


def title(axes: Axes, text: str) -> None:
    """A title as wide as the figure allows, on as many lines as it takes."""
    axes.set_title(textwrap.fill(text, 62))
