"""The figures of a report, as PNG, in a width that can be read on a telephone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arcsm_cli.io.scratch import scratch_file, temporary_folder
from arcsm_cli.plotting.by_kind import Writer, figure_of_samples
from arcsm_cli.plotting.curves import draw_history, read_history
from arcsm_cli.plotting.figure import write_figure
from arcsm_cli.plotting.roc import MOST_STATISTICS, draw_histograms, draw_scores

Values = NDArray[np.float64]

_NARROW = 4.4  # inches
_ACROSS = 8  # images in a row
_NO_TRACK: Any = None  # no density is evaluated


def curves(training: dict[str, Any], config: dict[str, Any], name: str) -> bytes | None:
    """Return training curves; None where a checkpoint has no history.

    Raises:
        DamagedInputError: its history is damaged.
    """
    if not (training.get("history") or {}):
        return None
    history = read_history(training, config, name)
    return _png(partial(_narrow, partial(draw_history, history=history), 4.2))


def samples(path: Path, *, images: int | None) -> bytes:
    """Return a grid of images, rows of clean, corrupted and restored ones, or a scatter plot.

    Arguments:
        path: a sample file.
        images: how many are shown; None for vectors.

    Raises:
        DamagedInputError: the file is damaged.
    """
    return _png(
        figure_of_samples(
            path,
            model=None,
            scale=None,
            count=images,
            columns=_ACROSS if images else None,
            device="cpu",
            track=_NO_TRACK,
            width=_NARROW,
        )
    )


def histograms(statistics: Mapping[str, Values]) -> bytes:
    """Return how each statistic is distributed, of at most `MOST_STATISTICS`."""
    shown = list(statistics.items())[:MOST_STATISTICS]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, (name, values) in zip(panels, shown, strict=True):
            draw_histograms(axes, {name: values})
            axes.set_xlabel(name)
        panels[0].set_title("share of the examples")

    return _png(partial(_narrow, draw, 0.3 + 1.9 * len(shown)))


def scores(
    inside: tuple[str, Mapping[str, Values]], outside: Mapping[str, Mapping[str, Values]]
) -> bytes:
    """Return histograms and ROC curves, see `arcsm_cli.plotting.roc.draw_scores`."""
    draw = partial(draw_scores, inside=inside, outside=outside)
    return _png(partial(_narrow, draw, 6.2 * len(inside[1])))


def written(write: Writer) -> bytes:
    """Return what `write` writes as PNG."""
    return _png(write)


def _narrow(draw: Any, height: float, path: Path, kind: str) -> None:
    write_figure(draw, path, kind, height=height, width=_NARROW)


def _png(write: Any) -> bytes:
    with scratch_file(temporary_folder(), "arcsm") as path:
        write(path, "png")
        return path.read_bytes()
