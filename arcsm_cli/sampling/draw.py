"""The autoregressive loop: one dimension after another, at the cost of one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from arcsm_cli.data.batch import nothing_given
from arcsm_cli.models.any_order import in_turn, place_count, visits
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


def start(model: AutoregressiveModel, given: Tensor, order: Tensor | None = None) -> Walk:
    """Start B examples of a model, of which ``given`` (B, G) is known.

    Arguments:
        order: (B, P), of a model of any order; None for the model's own.
    """
    if isinstance(model, ARMLE):
        return model.walk(given, order)
    assert isinstance(model, ARCSM)
    return ConditionalModel(model).walk(given, order)


@torch.no_grad()
def sample(
    model: AutoregressiveModel,
    sampler: Sampler,
    noise: SampleNoise,
    *,
    given: Tensor | None = None,
    known: Tensor | None = None,
    denoise: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw one example for each noise stream.

    Arguments:
        sampler: draws a dimension's values given their conditionals.
        noise: the B samples' random numbers.
        given: (B, G), what the samples are conditioned on; None for nothing.
        known: (B, *shape) in file units, NaN for what is to be drawn; the rest is kept as it is,
            all of a place (see `arcsm_cli.models.any_order`) or nothing. For models of any order,
            which visit first what is known.
        denoise: return E[x_d | x~_d, x~_<d] (Tweedie's formula at the last level) instead of the
            noisy x~ itself, which the contexts are made from either way.
        tick: called with 1 after each dimension.

    Returns:
        (B, *shape), in file units.
    """
    batch = len(noise.streams)
    dimensions = model.config.dimensions
    order = fixed = None
    if known is not None:
        fixed = model.sort(known)
        places = place_count(model.config.shape)
        order = in_turn(~fixed.view(batch, places, -1)[..., 0].isnan())
    walk = start(model, nothing_given(batch, model.mean) if given is None else given, order)
    dims, rows = visits(order, dimensions), torch.arange(batch, device=model.mean.device)
    x = model.mean.new_empty(batch, dimensions)
    ahead = max(1, _NOISE_NUMBERS // (batch * sampler.draws))
    for d in range(dimensions):
        if d % ahead == 0:
            z = noise.normal(min(ahead, dimensions - d), sampler.draws)
        own = z[:, d % ahead]
        seen = None if fixed is None else fixed[rows, dims[d]]
        if seen is None or bool(seen.isnan().any()):
            conditionals = walk.conditionals()
            value = sampler(conditionals, own)
            shown = conditionals.denoised(value) if denoise else value
        else:
            value = shown = seen
        if seen is not None:
            # Contexts have only ever read values with the noise of the last level.
            noisy = seen + model.sigma_min * own[:, 0]
            value = torch.where(seen.isnan(), value, noisy)
            shown = torch.where(seen.isnan(), shown, seen)
        walk.append(value)
        x[rows, dims[d]] = shown
        if tick is not None:
            tick(1)
    drawn = model.unsort(x)
    if known is None:
        return drawn
    known = known.to(drawn)
    return torch.where(known.isnan(), drawn, known)  # free of rounding
