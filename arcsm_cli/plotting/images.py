"""Grids of images as PNG files."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

_SMALLEST = 280  # pixels: small images are enlarged, by whole factors, to be seen


def write_grid(images: Tensor, path: Path, *, columns: int | None = None) -> None:
    """Write images N x C x H x W in [0, 1] as one PNG, row by row.

    Arguments:
        columns: images a row; by default the grid is about square.
    """
    count = len(images)
    columns = columns or math.ceil(math.sqrt(count))
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    grid = make_grid(images.clamp(0, 1), nrow=columns, padding=1, pad_value=0.5)
    factor = max(1, math.ceil(_SMALLEST / min(grid.shape[1:])))
    grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    to_pil_image(grid).save(path, format="PNG", optimize=True)
