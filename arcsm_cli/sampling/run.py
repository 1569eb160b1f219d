"""The autoregressive loop: one dimension after another, at the cost of one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.sampling.noise import SampleNoise

_NOISE_NUMBERS = 1 << 23  # random numbers held at a time: 32 MB


class Sampler(Protocol):
    """Draws one value for each of N conditionals from ``draws`` standard normals each."""

    @property
    def draws(self) -> int:
        """How many standard normals a value takes."""

    def __call__(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Map N conditionals and z (N, draws) to values (N,)."""


@torch.no_grad()
def sample(
    model: ARCSM,
    sampler: Sampler,
    noise: SampleNoise,
    *,
    denoise: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw one example for each noise stream.

    Arguments:
        sampler: draws a dimension's values given their conditionals.
        noise: the B samples' random numbers.
        denoise: return E[x_d | x~_d, x~_<d] (Tweedie's formula at the last level) instead of the
            noisy x~ itself, which the contexts are made from either way.
        tick: called with 1 after each dimension.

    Returns:
        (B, *shape), in file units.
    """
    batch = len(noise.streams)
    dimensions = model.config.dimensions
    conditionals = ConditionalModel(model)
    states = model.incremental(batch)
    x = model.mean.new_empty(batch, dimensions)
    ahead = max(1, _NOISE_NUMBERS // (batch * sampler.draws))
    for d in range(dimensions):
        if d % ahead == 0:
            z = noise.normal(min(ahead, dimensions - d), sampler.draws)
        rows = conditionals.of_dimension([state.contexts() for state in states], d)
        value = sampler(rows, z[:, d % ahead])
        for state in states:
            state.append(value)
        if denoise:
            value = value + model.sigma_min**2 * rows.at(model.sigma_min)(value)
        x[:, d] = value
        if tick is not None:
            tick(1)
    return model.unsort(x)
