"""Grids of images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 480  # pixels: small images are enlarged, by whole factors, to be seen
_BORDER = 160  # grey between images, since they may be black or white at their edges
_MOST_COLUMNS = 16  # of rows that belong together


def write_grid(
    images: Tensor | NDArray[np.float32], path: Path, *, columns: int | None = None
) -> None:
    """Write images N x C x H x W in [0, 1] as one PNG, row by row.

    Arguments:
        columns: images a row; by default the grid is about square.
    """
    pixels = _pixels(np.asarray(images))
    columns = min(len(pixels), columns or math.ceil(math.sqrt(len(pixels))))
    factor = _factor(pixels, columns, math.ceil(len(pixels) / columns))
    grid = _tiled(pixels, columns, factor)
    Image.fromarray(grid).save(path, format="PNG", optimize=True)


def write_rows(
    images: dict[str, NDArray[np.float32]], path: Path, kind: str, *, columns: int | None = None
) -> None:
    """Write versions of the same images under each other, each row with its name beside it.

    Arguments:
        images: by name, N x C x H x W in [0, 1] each. A single entry goes without its name.
        path: where to write.
        kind: ``png``, ``pdf`` or ``svg``.
        columns: images a row; by default about square for one version, else at most 16.
    """
    if len(images) == 1 and kind == "png":
        write_grid(next(iter(images.values())), path, columns=columns)
        return
    versions = [_pixels(values) for values in images.values()]
    count = len(versions[0])
    if len(versions) == 1:
        columns = min(count, columns or math.ceil(math.sqrt(count)))
        blocks = versions
    else:
        columns = min(count, columns or _MOST_COLUMNS)
        blocks = [
            np.concatenate([v[i : i + columns] for v in versions]) for i in range(0, count, columns)
        ]
    factor = _factor(versions[0], columns, len(versions) * math.ceil(count / columns))
    strips = [_tiled(b, min(columns, len(b) // len(versions)), factor) for b in blocks]
    _write_strips(strips, list(images) if len(images) > 1 else [], path, kind)


def _write_strips(strips: list[NDArray[np.uint8]], names: list[str], path: Path, kind: str) -> None:
    """Write blocks of rows under each other, pixel by pixel, the rows' names on the left."""
    from arcsm_cli.plotting.figure import DPI, new_figure, save

    gap = DPI // 10
    left = DPI * 4 // 5 if names else 0
    width = left + strips[0].shape[1]
    height = sum(len(s) for s in strips) + gap * (len(strips) - 1)
    with new_figure(width / DPI, height / DPI) as figure:
        top = height
        for strip in strips:
            rows, across = strip.shape[:2]
            axes = figure.add_axes(
                (left / width, (top - rows) / height, across / width, rows / height)
            )
            axes.set_axis_off()
            axes.imshow(
                strip, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest"
            )
            for i, name in enumerate(names):
                middle = top - rows * (i + 0.5) / len(names)
                figure.text(
                    (left - gap / 2) / width, middle / height, name, ha="right", va="center"
                )
            top -= rows + gap
        save(figure, path, kind)


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """N x H x W for grey, N x H x W x 3 for colour; other channels than these are left out."""
    values: NDArray[np.uint8] = (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)
    return values[:, :3].transpose(0, 2, 3, 1) if values.shape[1] >= 3 else values[:, 0]


def _tiled(pixels: NDArray[np.uint8], columns: int, factor: int) -> NDArray[np.uint8]:
    """Images side by side, row by row, enlarged, with a thin line around each."""
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    _, height, width, *colour = pixels.shape
    rows = math.ceil(len(pixels) / columns)
    line = max(2, 2 * factor // 3)
    grid = np.full(
        (rows * (height + line) + line, columns * (width + line) + line, *colour),
        _BORDER,
        np.uint8,
    )
    for i, image in enumerate(pixels):
        y, x = line + i // columns * (height + line), line + i % columns * (width + line)
        grid[y : y + height, x : x + width] = image
    return grid


def _factor(pixels: NDArray[np.uint8], columns: int, rows: int) -> int:
    """How many times each pixel is repeated for the smaller side to be large enough."""
    side = int(min(pixels.shape[2] * columns, pixels.shape[1] * rows))
    return max(1, math.ceil(_SMALLEST / side))
