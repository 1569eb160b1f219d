"""The univariate probability-flow ODE (Song et al. 2021), for joint models."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.models.quadrature import grid_density
from arcsm_cli.sampling.grid import invert_cdf

_FEW = 256  # dimensions


@dataclass(frozen=True)
class ProbabilityFlow:
    """dx/dsigma = -sigma s(x; sigma) from sigma_1 to sigma_L in Heun steps (EDM, algorithm 1).

    Arguments:
        sigma_max, sigma_min: the ends of the model's noise range.
        steps: Heun steps, two evaluations each, spaced evenly in sigma^(1/rho).
        rho: 7 as in EDM; larger spends more steps at low noise.
        exact_start: draw the start by inverting the first level's distribution function on a grid.
            False takes its normal approximation, which is nearly as good where the first level's
            noise dwarfs the data (three standard deviations or more), at a tenth of the cost.
    """

    sigma_max: float
    sigma_min: float
    steps: int = 16
    rho: float = 7.0
    exact_start: bool = True

    @classmethod
    def for_model(cls, model: AutoregressiveModel, steps: int | None = None) -> ProbabilityFlow:
        """Return the sampler for a model of joint annealing.

        Few dimensions cost little: care is taken over each. Many, such as pixels, weigh less
        singly, and five steps end within a tenth of sigma_min of the exact flow.
        """
        few = model.config.dimensions <= _FEW
        wide = model.levels[0] >= 3.0 * float(model.sd.max())
        return cls(
            model.levels[0],
            model.sigma_min,
            steps=steps or (16 if few else 5),
            exact_start=few or not wide,
        )

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
        return self.follow(rows, self.start(rows, z[:, 0]))

    def follow(self, rows: Conditionals, x: Tensor) -> Tensor:
        """Follow the flow from values x (N,) at the first level to the last; returns (N,)."""
        none = x.new_zeros(1, 1)
        sigmas = self.sigmas()
        score = rows.at(sigmas[0])
        for sigma, following in itertools.pairwise(sigmas):
            h = following - sigma
            # Euler to the trial point t, then x <- x + h/2 (slope(x) + slope(t)), written with
            # half of the first term being (t - x) / 2.
            trial = score.walk(x, -sigma * h, none)
            score = rows.at(following)
            ahead = score.walk(trial, -following * h / 2, none)
            x = ahead.add_(x - trial, alpha=0.5)
        return x

    def start(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw from the first level's conditional: its quantiles at Phi(z), (N,)."""
        score = rows.at(self.sigma_max)
        if self.exact_start:
            return invert_cdf(grid_density(score, points=64), z)
        x = torch.zeros_like(z) + score.mean
        s, ds = score.with_derivative(x)
        # One Newton step to the mode; the curvature there is the inverse variance, which for data
        # of the model's spread is at least that of `pull`. Half of it bounds the step.
        ds = ds.clamp(max=0.5 * score.pull)
        return x - s / ds + z * (-ds).rsqrt()
