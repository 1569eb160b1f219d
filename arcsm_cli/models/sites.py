"""What the values of a pixel tell of each other, where each of them is a site of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def of_earlier(pixels: Tensor, weight: Tensor) -> Tensor:
    """Return what sub-pixels add to the contexts of their later ones, (..., channels, C).

    Arguments:
        pixels: values (..., channels).
        weight: (channels, channels, C); entry (k, j) is read for j < k alone.
    """
    below = torch.ones_like(weight[..., 0]).tril(-1)
    return torch.einsum("...j,kjc->...kc", pixels, weight * below[..., None])
