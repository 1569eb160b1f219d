"""8-bit images as numbers of a continuum: uniform noise over each grey value's cell.

A density p over dequantised images bounds the probability of the 8-bit ones: for grey values k,
cells of width w, and u uniform over the cell around each value,

    log P(k) = log of the integral of p over the cells >= E_u[log p(k + u)] + D log w,

by Jensen's inequality (Theis, van den Oord and Bethge 2016). Published bits per dimension of
continuous models are this bound.
"""

from __future__ import annotations

from torch import Tensor

CELL = 1 / 255
"""The width of a grey value's cell in images from 0 to 1."""

_ROUNDING = 1e-4  # in grey values; what float32 images carry is far finer


def dequantized(x: Tensor, u: Tensor) -> Tensor:
    """Return images in [0, 1] with each value moved to a place in its cell.

    Arguments:
        x: 8-bit values k / 255.
        u: of the same shape, uniform in [0, 1].

    Example:
        >>> import torch
        >>> dequantized(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])) * 255
        tensor([  0.0000, 255.5000])
    """
    return x + CELL * (u - 0.5)


def is_eight_bit(x: Tensor) -> bool:
    """Return whether all values in [0, 1] are k / 255."""
    levels = 255 * x.double()
    return bool(((levels - levels.round()).abs() < _ROUNDING).all())
