"""The walk that restores examples scalar by scalar, with one or many particles.

With particles this is a particle filter with fixed-lag smoothing (Doucet & Johansen 2009) over the
model's own order: each particle draws the values that it goes on with from the rule, is weighed by
how well its past predicts the next observation, and the well-weighed are multiplied. What is
reported is one particle, drawn at the end by its weight; or of each scalar the mean of what the
particles say ``lag`` scalars later: by then
observations below and to the right have had their say, through the values that were drawn. How far
the drawn values were from their expectations at first is known and taken off (a control variate).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.denoising.rules import Rule
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.randomness import SampleNoise

_NOISE_NUMBERS = 1 << 22  # random numbers held at a time


@torch.no_grad()
def restore(
    model: ARCSM,
    observed: Batch | Tensor,
    rule: Rule,
    noise: SampleNoise,
    *,
    particles: int = 1,
    lag: int = 0,
    draw: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Return restored examples (B, D).

    Arguments:
        observed: (B, D), sorted examples as they were seen.
        rule: how a scalar is restored.
        noise: the B examples' random numbers.
        particles: P, drawn side by side for each example.
        lag: how many scalars later a scalar is decided.
        draw: return one particle of each example, drawn at the end by its weight, instead of means:
            a draw from the posterior of all scalars together, in the limit of many particles.
        tick: called with 1 after each dimension.
    """
    observed = Batch.of(observed)
    y, given = observed.x, observed.given
    batch, dimensions = y.shape
    lag = dimensions if draw else lag
    walk = ConditionalModel(model).walk(given.repeat_interleave(particles, 0))
    seen = y.repeat_interleave(particles, 0)
    log_w = y.new_zeros(batch, particles)
    means = y.new_zeros(batch, particles, dimensions)  # given the drawn values
    offset = torch.zeros_like(y)
    result = torch.empty_like(y)
    numbers = particles * (rule.draws + 1)  # the last one chooses who is multiplied
    ahead = max(1, _NOISE_NUMBERS // (batch * numbers))
    for d in range(dimensions):
        if d % ahead == 0:
            z = noise.normal(min(ahead, dimensions - d), numbers).to(y.dtype)
        own = z[:, d % ahead]
        draws = own[:, : particles * rule.draws].reshape(batch * particles, rule.draws)
        found = rule(walk.conditionals(), seen[:, d], draws, d)
        walk.append(found.value)
        means[:, :, d] = found.given_value.view(batch, particles)
        if particles > 1:
            log_w = log_w + found.log_weight.view(batch, particles)
        w = log_w.softmax(1)
        offset[:, d] = (w * (found.mean - found.given_value).view(batch, particles)).sum(1)
        if d >= lag:
            result[:, d - lag] = (w * means[:, :, d - lag]).sum(1)
        if particles > 1 and d + 1 < dimensions:
            survivors = _resampled(w, own[:, -1])
            if survivors is not None:
                log_w = torch.where(survivors[1][:, None], 0.0, log_w)
                start = torch.arange(batch, device=y.device)[:, None] * particles
                walk.select((survivors[0] + start).flatten())
                recent = means[:, :, max(0, d - lag) : d + 1]
                recent.copy_(recent.gather(1, survivors[0][:, :, None].expand_as(recent)))
        if tick is not None:
            tick(1)
    if draw:
        index = torch.searchsorted(w.cumsum(1), torch.special.ndtr(own[:, -1:]))
        return means[torch.arange(batch, device=y.device), index.clamp(max=particles - 1)[:, 0]]
    if lag > 0:
        last = min(lag, dimensions)
        result[:, dimensions - last :] = (w[:, :, None] * means[:, :, dimensions - last :]).sum(1)
    return result + offset


def _resampled(w: Tensor, z: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return which particles (B, P) go on, and for which examples (B,) that is news; or None.

    Systematic resampling, where fewer than half of the particles count.

    Arguments:
        w: (B, P), normalised weights.
        z: (B,), a standard normal each.
    """
    particles = w.shape[1]
    needed = w.square().sum(1) * particles > 2
    if not needed.any():
        return None
    steps = torch.arange(particles, device=w.device)
    u = (steps + torch.special.ndtr(z)[:, None]) / particles
    index = torch.searchsorted(w.cumsum(1).contiguous(), u).clamp(max=particles - 1)
    return torch.where(needed[:, None], index, steps.expand_as(index)), needed
