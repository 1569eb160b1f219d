"""Sampling by inverting the distribution function on a grid: any model, one level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.models.quadrature import GridDensity, grid_density


@dataclass(frozen=True)
class Grid:
    """Integrate s to a density on G points, normalise, invert the distribution function.

    Exact up to the grid for the density that the level's score defines. A score trained at one
    small level says nothing about the weights of well separated modes: use `ode` for those.

    Arguments:
        sigma: noise level.
        points: G.
    """

    sigma: float
    points: int = 256

    @classmethod
    def for_model(cls, model: AutoregressiveModel, points: int = 256) -> Grid:
        """Return the sampler for the last level of a model of scores."""
        return cls(model.sigma_min, points)

    @property
    def draws(self) -> int:
        """Random numbers a dimension."""
        return 1

    def __call__(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, 1); returns (N,)."""
        size = max(1, (1 << 15) // self.points)
        parts = [
            invert_cdf(
                grid_density(rows.rows(slice(i, i + size)).at(self.sigma), points=self.points),
                z[i : i + size, 0],
            )
            for i in range(0, len(rows), size)
        ]
        return torch.cat(parts)


def invert_cdf(density: GridDensity, z: Tensor) -> Tensor:
    """Return the quantiles at Phi(z) of N gridded densities, z and result (N,) or (N, M).

    Between grid points the density is linear, so the distribution function is a parabola.
    """
    u = torch.special.ndtr(z).view(len(z), -1)
    last = density.points.shape[1] - 2
    i = (torch.searchsorted(density.cdf, u, right=True) - 1).clamp(0, last)
    x0, c0 = density.points.gather(1, i), density.cdf.gather(1, i)
    p = density.log_density.exp()
    p0, p1 = p.gather(1, i), p.gather(1, i + 1)
    h = density.points.gather(1, i + 1) - x0
    tiny = torch.finfo(p.dtype).tiny
    # The share of the cell's mass below the quantile, as an area under the linear density.
    share = ((u - c0) / (density.cdf.gather(1, i + 1) - c0).clamp(min=tiny)).clamp(0, 1)
    rest = 0.5 * (p0 + p1) * share
    # Solve (p1 - p0) t^2 / 2 + p0 t = rest for t in [0, 1], in the form that never cancels.
    root = (p0.square() + 2 * (p1 - p0) * rest).clamp(min=0).sqrt()
    t = (2 * rest / (p0 + root).clamp(min=tiny)).clamp(0, 1)
    x: Tensor = (x0 + t * h).view_as(z)
    return x
