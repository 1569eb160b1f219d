"""The univariate probability-flow ODE (Song et al. 2021), for joint models."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.evaluation.quadrature import grid_density
from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.sampling.grid import invert_cdf

# From this ratio of noise to data on, the first level's conditional is normal to within 1e-5 nats
# for any data of that spread (its fourth cumulant is below 2 % of the variance squared).
_NORMAL_FROM = 3.0


@dataclass(frozen=True)
class ProbabilityFlow:
    """dx/dsigma = -sigma s(x; sigma) from sigma_1 to sigma_L in Heun steps (EDM, algorithm 1).

    The start is drawn from the first level's conditional: from its normal approximation where the
    noise dwarfs the data, else by inverting its distribution function on a grid.

    Arguments:
        sigma_max, sigma_min: the ends of the model's noise range.
        steps: Heun steps, two evaluations each, spaced evenly in sigma^(1/rho).
        rho: 7 as in EDM; larger spends more steps at low noise.
    """

    sigma_max: float
    sigma_min: float
    steps: int = 10
    rho: float = 7.0

    @property
    def draws(self) -> int:
        """Random numbers a dimension: the start."""
        return 1

    def sigmas(self) -> list[float]:
        """Return the ``steps + 1`` noise levels of the grid, largest first."""
        a, b = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        inner = [(a + (b - a) * i / self.steps) ** self.rho for i in range(1, self.steps)]
        return [self.sigma_max, *inner, self.sigma_min]

    def __call__(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, 1); returns (N,)."""
        sigmas = self.sigmas()
        x = self.start(rows, z[:, 0])
        slope = rows.at(sigmas[0])(x).mul_(-sigmas[0])
        for sigma, following in itertools.pairwise(sigmas):
            h = following - sigma
            ahead = rows.at(following)
            trial = x.add(slope, alpha=h)
            slope2 = ahead(trial).mul_(-following)
            x = x.add(slope.add_(slope2), alpha=h / 2)
            # The last evaluation serves the next step's first: one fewer evaluation a step would
            # lose an order, so the slope is taken afresh at the corrected point.
            if following != sigmas[-1]:
                slope = ahead(x).mul_(-following)
        return x

    def start(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw from the first level's conditional: its quantiles at Phi(z), (N,)."""
        score = rows.at(self.sigma_max)
        if self.sigma_max >= _NORMAL_FROM * rows.spread:
            x = score.mean + torch.zeros_like(z)
            for _ in range(2):  # Newton steps to the mode; the first is nearly exact
                s, ds = score.with_derivative(x)
                x = x - s / ds
            return x + z * (-ds).rsqrt()
        return invert_cdf(grid_density(score, points=64), z)
