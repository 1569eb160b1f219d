"""Variable orders: the sequence in which a model visits the dimensions of an example."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arcsm_cli.models.architecture import ANY, ORDERS


def variable_order(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return the permutation that sorts a flattened example into the order of the model.

    Images are visited pixel by pixel, and inside a pixel channel by channel (R, G, B), whatever
    the order of the pixels (Salimans et al. 2017).

    Arguments:
        name: ``raster`` (row by row), ``reversed`` (the last pixel first), ``random``, or ``any``,
            whose examples lie row by row and are visited in orders of their own.
        shape: the example's shape, ``(D,)`` or ``(C, H, W)``.
        seed: chooses the permutation of ``random``.

    Returns:
        int64 tensor (D,); entry i is the flat index (in C, H, W layout) of the i-th variable.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> variable_order("raster", (3, 1, 2)).tolist()  # R, G, B of pixel 0, then of pixel 1
        [0, 2, 4, 1, 3, 5]
        >>> variable_order("reversed", (4,)).tolist()
        [3, 2, 1, 0]
    """
    if name not in ORDERS:
        raise ValueError(f"unknown order {name!r}: choose one of {', '.join(ORDERS)}")
    channels = shape[0] if len(shape) == 3 else 1
    pixels = math.prod(shape) // channels
    if name in ("raster", ANY):
        sequence = torch.arange(pixels)
    elif name == "reversed":
        sequence = torch.arange(pixels).flip(0)
    else:
        sequence = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed))
    return (sequence[:, None] + pixels * torch.arange(channels)).flatten()
