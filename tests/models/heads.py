"""Heads to test, values that they have densities of, and draws of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.models.heads import (
    DiscretizedLogisticMixture,
    Gaussian,
    Head,
    LogisticMixture,
)

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
HALF_BIN = 1 / 255
BOUNDS = (-7.0, 20.0)  # of log scales


def width_of(head: Head) -> int:
    """P, how many parameters a head takes."""
    if isinstance(head, DiscretizedLogisticMixture):
        return head.width(head.components, head.site)
    if isinstance(head, LogisticMixture):
        return head.width(head.components, 1)
    return head.width(1, 1)


def random(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_levels(shape: tuple[int, ...], seed: int) -> Tensor:
    """Values of 8-bit images, both ends of the range often among them."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(-40, 296, shape, generator=generator).clamp(0, 255)
    return LEVELS[k]


CONTINUOUS: list[Head] = [Gaussian(), LogisticMixture(1), LogisticMixture(4)]
DISCRETE = [DiscretizedLogisticMixture(k, c) for k, c in [(1, 1), (5, 1), (1, 3), (4, 3), (3, 2)]]


def name(head: Any) -> str:
    return " ".join(map(str, (type(head).__name__, *vars(head).values())))


every = pytest.mark.parametrize("head", [*CONTINUOUS, *DISCRETE], ids=name)
continuous = pytest.mark.parametrize("head", CONTINUOUS, ids=name)
discrete = pytest.mark.parametrize("head", DISCRETE, ids=name)
seeds = st.integers(0, 2**32 - 1)


def values_for(head: Head, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """Return values (*shape, S) that the head has densities of."""
    shape = (*shape, head.site)
    return random_levels(shape, seed) if head.discrete else random(shape, seed, 2.0)


def sites_with(head: Head, earlier: Tensor, values: Tensor) -> Tensor:
    """Return sites (N, G, S): ``earlier`` (N, k), then each of ``values`` (G,), then anything."""
    n, k = earlier.shape
    sites = torch.full((n, len(values), head.site), 0.5, dtype=earlier.dtype)
    sites[:, :, :k] = earlier[:, None]
    sites[:, :, k] = values
    return sites


def of_levels(head: Head, parameters: Tensor, earlier: Tensor) -> Tensor:
    """Return log p of the 256 levels of the channel after ``earlier`` (N, k): (N, 256)."""
    found = []
    for p, known in zip(parameters.split(200), earlier.split(200), strict=True):
        sites = sites_with(head, known, LEVELS.to(known.dtype))
        found.append(head.log_prob(p[:, None].expand(-1, 256, -1), sites)[..., known.shape[1]])
    return torch.cat(found)


def draw_site(head: Head, parameters: Tensor, seed: int) -> Tensor:
    """Draw all values of N sites in turn, (N, S)."""
    n = len(parameters)
    z = random((n, head.site, head.draws), seed).to(parameters.dtype)
    x = parameters.new_empty(n, 0)
    for c in range(head.site):
        x = torch.cat([x, head.draw(parameters, x, z[:, c])[:, None]], 1)
    return x


def mixture_cdf(parameters: Tensor, x: Tensor) -> Tensor:
    """P(X <= x) of logistic mixtures with parameters (N, 3K), (N,)."""
    logits, locations, log_scales = parameters.chunk(3, -1)
    parts = torch.sigmoid((x[:, None] - locations) / log_scales.clamp(*BOUNDS).exp())
    return (logits.softmax(-1) * parts).sum(-1)
