"""Normalised univariate densities from scores, by quadrature (theorem 3 of the paper, numerically).

A first pass on a wide grid, as wide as the weights allow mass to be, finds the window that holds
each conditional's mass; a second pass integrates the score inside it with even spacing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.models.conditional import LevelScore

_SCOUTS = 96  # points of the first pass
_DEPTH = 40.0  # nats below the peak at which a window may end


class GridDensity(NamedTuple):
    """log-densities of N conditionals on G points each; piecewise linear scores between them.

    Attributes:
        points: (N, G), ascending, evenly spaced in each row.
        score: (N, G).
        log_density: (N, G), normalised: the trapezoid sum of its exponential is 1.
        cdf: (N, G), from 0 to 1.
    """

    points: Tensor
    score: Tensor
    log_density: Tensor
    cdf: Tensor


def grid_density(score: LevelScore, *, points: int = 256) -> GridDensity:
    """Integrate the scores of N conditionals to normalised densities.

    Arguments:
        score: N conditionals at one noise level.
        points: G, grid points in each window.
    """
    low, high = _window(score)
    u = torch.linspace(0.0, 1.0, points, device=low.device, dtype=low.dtype)
    grid = low[:, None] + (high - low)[:, None] * u
    return integrated(grid, score(grid))


def integrated(grid: Tensor, s: Tensor) -> GridDensity:
    """Normalise the densities whose scores are s (N, G) on ascending, even grids (N, G)."""
    log_p = _integrate(grid, s)
    step = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
    p = log_p.exp()
    # Trapezoids with the end correction for p' = p s, which is known: fourth order for free.
    dp = p * s
    parts = 0.5 * step * (p[:, 1:] + p[:, :-1]) + step**2 / 12 * (dp[:, :-1] - dp[:, 1:])
    cdf = torch.cat([p.new_zeros(len(p), 1), parts.clamp(min=0).cumsum(1)], 1)
    total = cdf[:, -1:]
    return GridDensity(grid, s, log_p - total.log(), cdf / total)


def log_density(score: LevelScore, x: Tensor, *, points: int = 256) -> Tensor:
    """Return log p(x) of N conditionals at x (N,).

    The log-density at the nearest grid point plus the integral of s from there to x; the point may
    lie outside the window, however unlikely.
    """
    d = grid_density(score, points=points)
    step = (d.points[:, -1] - d.points[:, 0]) / (points - 1)
    x0, s0, log_p0 = nearest(d, x)
    # Outside the window one trapezoid would span the whole way: walk it in a few steps.
    walk = torch.linspace(0.0, 1.0, 9, device=x.device, dtype=x.dtype)
    far = (x - x0).abs() > step
    result = log_p0 + 0.5 * (s0 + score(x)) * (x - x0)
    if far.any():
        path = x0[:, None] + (x - x0)[:, None] * walk
        result = torch.where(far, log_p0 + torch.trapezoid(score(path), path, dim=1), result)
    return result


def nearest(d: GridDensity, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid point nearest to x (N,) in each row, its score and log-density, (N,) each."""
    points = d.points.shape[1]
    low, step = d.points[:, 0], (d.points[:, -1] - d.points[:, 0]) / (points - 1)
    place = ((x - low) / step).round().nan_to_num(0.0)  # a score that overflows ends as NaN
    index = place.clamp(0, points - 1).long()[:, None]
    x0, s0, log_p0 = (t.gather(1, index)[:, 0] for t in (d.points, d.score, d.log_density))
    return x0, s0, log_p0


def _integrate(grid: Tensor, s: Tensor) -> Tensor:
    """Return the integral of s along each row, shifted so that its maximum is 0."""
    steps = 0.5 * (s[:, 1:] + s[:, :-1]) * grid.diff(dim=1)
    log_p = torch.cat([steps.new_zeros(len(steps), 1), steps.cumsum(1)], 1)
    return log_p - log_p.max(1, keepdim=True).values


def _window(score: LevelScore) -> tuple[Tensor, Tensor]:
    """Return ends (N,) of an interval outside which each density is negligible.

    Beyond ``reach`` the score points back, so the mass lies within reach plus a few widths of the
    Gaussian tail. The scouting grid is spaced like sinh: fine near the data, coarse far away.
    """
    tail = score.tail
    scale = torch.asinh(score.reach / tail + 10.0)
    u = torch.linspace(-1.0, 1.0, _SCOUTS, device=tail.device, dtype=tail.dtype)
    offsets = tail[:, None] * torch.sinh(scale[:, None] * u)
    mean = score.mean[:, None] if isinstance(score.mean, Tensor) else score.mean
    grid = mean + offsets
    log_p = _integrate(grid, score(grid))
    inside = log_p > -_DEPTH
    first = (inside.float().argmax(1) - 1).clamp(min=0)
    last = (_SCOUTS - inside.flip(1).float().argmax(1)).clamp(max=_SCOUTS - 1)
    ends = [grid.gather(1, i[:, None])[:, 0] for i in (first, last)]
    return ends[0], ends[1]
