"""Corruptions of clean examples, reproducible example by example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from arcsm_cli.randomness import SampleNoise


class Corruption(Protocol):
    """Turns clean examples into corrupted ones."""

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Corrupt x (B, *shape), in file units, with the examples' own random numbers."""


@dataclass(frozen=True)
class Gaussian:
    """x + sigma eps; nothing is clipped, so that the noise stays normal.

    Arguments:
        sigma: standard deviation in the scale that the model sees.
        scale: file units in one unit of that scale, a number or of the examples' shape: 0.5 for
            images, a standard deviation for each standardised variable.
    """

    sigma: float
    scale: float | Tensor = 1.0

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """See `Corruption`."""
        return x + self.sigma * self.scale * noise.normal(*x.shape[1:])


@dataclass(frozen=True)
class SaltPepper:
    """Each pixel, with all its channels, becomes 0 or 1 with probability p.

    Arguments:
        probability: p.
    """

    probability: float

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """See `Corruption`."""
        u = torch.special.ndtr(noise.normal(1, *x.shape[2:]))
        struck = u < self.probability
        # Below p, u is uniform on [0, p): its halves are pepper and salt.
        return torch.where(struck, (u < self.probability / 2).to(x.dtype), x)


@dataclass(frozen=True)
class Mask:
    """Hidden values become 0.

    Arguments:
        hidden: bool, of the examples' shape or broadcastable to it.
    """

    hidden: Tensor

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """See `Corruption`."""
        return torch.where(self.hidden, torch.zeros_like(x), x)
