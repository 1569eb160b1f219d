"""Sampling a distilled model: each scalar in one evaluation of its quantile function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.models.quadrature import grid_density
from arcsm_cli.sampling.grid import invert_cdf
from arcsm_cli.sampling.ode import ProbabilityFlow

_STEPS, _START_POINTS, _POINTS = 16, 64, 256


@dataclass(frozen=True)
class Quantile:
    """The quantile at Phi(z) of what the model was taught by `arcsm distill`."""

    draws: int = 1

    @classmethod
    def for_model(cls, model: ARCSM) -> Quantile:
        """Return the sampler for a distilled model."""
        return cls()

    def __call__(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, 1); returns (N,)."""
        return rows.quantiles()(z)[:, 0]


@torch.no_grad()
def exact_quantiles(rows: Conditionals, z: Tensor) -> Tensor:
    """Return the quantiles at Phi(z) of the last level's conditionals, z and result (N, M).

    What is taught. By the probability flow from the exact quantiles of the first level where there
    is one; else by inverting the last level's distribution function.
    """
    if rows.owner.model.config.annealing != "joint":
        return invert_cdf(grid_density(rows.at(rows.levels[-1]), points=_POINTS), z)
    first, last = rows.levels[0], rows.levels[-1]
    start = invert_cdf(grid_density(rows.at(first), points=_START_POINTS), z)
    each = torch.arange(len(z), device=z.device).repeat_interleave(z.shape[1])
    flow = ProbabilityFlow(first, last, _STEPS)
    return flow.follow(rows.rows(each), start.flatten()).view_as(z)
