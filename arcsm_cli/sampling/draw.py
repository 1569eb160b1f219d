"""The autoregressive loop: one dimension after another, at the cost of one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from arcsm_cli.data.batch import nothing_given
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.randomness import SampleNoise

_NOISE_NUMBERS = 1 << 23  # random numbers held at a time: 32 MB


class Sampler(Protocol):
    """Draws one value for each of N conditionals from ``draws`` standard normals each.

    Which kind of conditionals it takes depends on the model: `Conditionals` (scores) of an AR-CSM,
    `Drawable` of a model trained by maximum likelihood.
    """

    @property
    def draws(self) -> int:
        """How many standard normals a value takes."""

    def __call__(self, rows: Any, z: Tensor) -> Tensor:
        """Map N conditionals and z (N, draws) to values (N,)."""


class Walk(Protocol):
    """A batch of examples whose dimensions become known in turn; each activation made once."""

    def conditionals(self) -> Any:
        """Return the conditionals p(x_d | x_<d) of the next dimension."""

    def append(self, x: Tensor) -> None:
        """Fix the next dimension's values (B,) and move on."""


def start(model: AutoregressiveModel, given: Tensor) -> Walk:
    """Start B examples of a model, of which ``given`` (B, G) is known."""
    if isinstance(model, ARMLE):
        return model.walk(given)
    assert isinstance(model, ARCSM)
    return ConditionalModel(model).walk(given)


@torch.no_grad()
def sample(
    model: AutoregressiveModel,
    sampler: Sampler,
    noise: SampleNoise,
    *,
    given: Tensor | None = None,
    denoise: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw one example for each noise stream.

    Arguments:
        sampler: draws a dimension's values given their conditionals.
        noise: the B samples' random numbers.
        given: (B, G), what the samples are conditioned on; None for nothing.
        denoise: return E[x_d | x~_d, x~_<d] (Tweedie's formula at the last level) instead of the
            noisy x~ itself, which the contexts are made from either way.
        tick: called with 1 after each dimension.

    Returns:
        (B, *shape), in file units.
    """
    batch = len(noise.streams)
    dimensions = model.config.dimensions
    walk = start(model, nothing_given(batch, model.mean) if given is None else given)
    x = model.mean.new_empty(batch, dimensions)
    ahead = max(1, _NOISE_NUMBERS // (batch * sampler.draws))
    for d in range(dimensions):
        if d % ahead == 0:
            z = noise.normal(min(ahead, dimensions - d), sampler.draws)
        rows = walk.conditionals()
        value = sampler(rows, z[:, d % ahead])
        walk.append(value)
        x[:, d] = rows.denoised(value) if denoise else value
        if tick is not None:
            tick(1)
    return model.unsort(x)
