"""Random numbers and data for the losses of VAEs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.randomness import Draws

Make = Callable[..., Any]
SIZE = 3  # codes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(seed: int) -> Draws:
    return Draws(seeded(seed))


def noise(count: int, seed: int) -> Tensor:
    """The standard normals that `vae_losses` begins with."""
    return torch.randn(count, SIZE, generator=seeded(seed), dtype=torch.float64)


def binary(count: int, size: int = 6) -> Tensor:
    return torch.rand(count, size, generator=seeded(99)).round().double()
