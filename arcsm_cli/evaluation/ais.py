"""Annealed importance sampling of a latent-variable model's log-likelihood (Neal 2001).

Chains start at draws of the prior and pass through p(z) p(x|z)^b for a rising sequence of b, moved
at each by Hamiltonian Monte Carlo; their importance weights have mean p(x) (Wu et al. 2017 apply
this to decoders). The logarithm of a mean of weights is a lower bound in expectation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from arcsm_cli.models.vae import log_prior
from arcsm_cli.randomness import SampleNoise


class Likelihood(Protocol):
    """p(x|z) of the rows of codes (N, L): row n's own x."""

    def value(self, z: Tensor) -> Tensor:
        """Return log p(x|z), (N,)."""

    def gradient(self, z: Tensor) -> Tensor:
        """Return the gradient of log p(x|z) in z, (N, L): all that a trajectory takes."""


_FIRST_STEP, _SMALLEST_STEP, _LARGEST_STEP = 0.1, 1e-4, 1.0
_GROWTH, _MEMORY = 1.02, 0.9  # of the step size; of the acceptance rate it is adapted to


@dataclass(frozen=True)
class AnnealedSampling:
    """How to anneal; the defaults are those of the published comparisons.

    Attributes:
        chains: of each example.
        temperatures: values of b, on a sigmoid from ``-radius`` to ``radius``.
        leapfrog: steps of a Hamiltonian trajectory.
        acceptance: that the step size, one an example, is adapted to.
    """

    chains: int = 16
    temperatures: int = 1000
    leapfrog: int = 10
    radius: float = 4.0
    acceptance: float = 0.65

    def schedule(self) -> Tensor:
        """Return b from 0 to 1, float64 (temperatures,)."""
        curve = torch.linspace(-self.radius, self.radius, self.temperatures).double().sigmoid()
        return (curve - curve[0]) / (curve[-1] - curve[0])

    def __call__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        noise: SampleNoise,
        tick: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Return estimates of log p(x), (B,), in nats.

        Arguments:
            likelihood: of B x chains codes, an example's chains side by side.
            noise: the B examples' random numbers.
            tick: called with 1 after each temperature.
        """
        batch = len(noise.streams)
        shape = (batch * self.chains, latent_dim)
        z = noise.normal(self.chains, latent_dim).view(shape)
        value, slope = likelihood.value(z), likelihood.gradient(z)
        log_w = value.new_zeros(shape[0], dtype=torch.float64)
        step = value.new_full((batch, 1), _FIRST_STEP)
        accepted = value.new_full((batch, 1), self.acceptance)
        schedule = self.schedule().tolist()
        for before, b in itertools.pairwise(schedule):
            log_w += (b - before) * value.double()
            momentum = noise.normal(self.chains, latent_dim).view(shape)
            coin = noise.normal(self.chains).view(-1)
            size = step.expand(batch, self.chains).reshape(-1, 1)
            z, value, slope, moved = self._trajectory(
                likelihood, b, (z, value, slope), momentum, coin, size
            )
            rate = moved.view(batch, self.chains).mean(1, keepdim=True)
            accepted = _MEMORY * accepted + (1 - _MEMORY) * rate
            factor = torch.where(accepted > self.acceptance, _GROWTH, 1 / _GROWTH)
            step = (step * factor).clamp(_SMALLEST_STEP, _LARGEST_STEP)
            if tick is not None:
                tick(1)
        weights = log_w.view(batch, self.chains)
        return weights.logsumexp(1) - torch.tensor(float(self.chains)).log().double()

    def _trajectory(
        self,
        likelihood: Likelihood,
        b: float,
        state: tuple[Tensor, Tensor, Tensor],
        momentum: Tensor,
        coin: Tensor,
        size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Move codes by one trajectory, or leave them; return also who moved, as 1 or 0."""
        z, value, slope = state
        before = log_prior(z) + b * value - 0.5 * momentum.square().sum(1)
        p = momentum + 0.5 * size * (b * slope - z)
        x = z
        for i in range(self.leapfrog):
            x = x + size * p
            new_slope = likelihood.gradient(x)
            half = 0.5 if i == self.leapfrog - 1 else 1.0
            p = p + half * size * (b * new_slope - x)
        new_value = likelihood.value(x)
        after = log_prior(x) + b * new_value - 0.5 * p.square().sum(1)
        moves = torch.special.ndtr(coin) < (after - before).exp()  # never where NaN
        keep = moves[:, None]
        return (
            torch.where(keep, x, z),
            torch.where(moves, new_value, value),
            torch.where(keep, new_slope, slope),
            moves.to(z.dtype),
        )
