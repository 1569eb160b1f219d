"""A conditional's density at one noise level, on a grid as coarse as that level allows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.models.quadrature import GridDensity, grid_density, integrated, nearest
from arcsm_cli.sampling.grid import invert_cdf

_REACH = 4.0  # standard deviations of the noise beyond the range of the data
_PER_SIGMA = 2.0  # points: the density is smooth at the scale of the noise


@dataclass(frozen=True)
class LevelGrid:
    """Normalised densities of N conditionals at noise level sigma, each at G points."""

    density: GridDensity

    @classmethod
    def of(cls, rows: Conditionals, sigma: float) -> LevelGrid:
        """Integrate the scores of N conditionals.

        The clean values of images are known to lie in [-1, 1], which bounds the grid; for vectors
        the mass is searched for first, at several times the cost.
        """
        score = rows.at(sigma)
        if not rows.owner.model.config.is_image:
            return cls(grid_density(score, points=96))
        end = 1.0 + _REACH * sigma
        points = int(2 * end / sigma * _PER_SIGMA) + 2
        like = rows.projections[0]
        grid = torch.linspace(-end, end, points, device=like.device, dtype=like.dtype)
        grid = grid.expand(len(rows), points)
        return cls(integrated(grid, score(grid)))

    def log_density(self, x: Tensor, s: Tensor) -> Tensor:
        """Return log p (N,) at x (N,), where the scores are s (N,)."""
        x0, s0, log_p0 = nearest(self.density, x)
        return log_p0 + 0.5 * (s0 + s) * (x - x0)

    def quantile(self, z: Tensor) -> Tensor:
        """Return the values (N,) below which Phi(z) of the mass lies."""
        return invert_cdf(self.density, z)

    def mean(self) -> Tensor:
        """Return the means (N,), which are those of the clean values too."""
        x, p = self.density.points, self.density.log_density.exp()
        return torch.trapezoid(x * p, x, dim=1) / torch.trapezoid(p, x, dim=1)
