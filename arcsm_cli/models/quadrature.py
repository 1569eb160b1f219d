"""Normalised univariate densities from scores, by quadrature (theorem 3 of the paper, numerically).

A first pass on a wide grid, as wide as the weights allow mass to be and fine enough to meet every
mode, finds the window that holds each conditional's mass; a second pass integrates the score inside
it with even spacing. Rows for which either grid is too coarse, because modes lie many of their
widths apart or narrow ones beside broad ones, get more points where the score bends: cells whose
error is estimated to be too large are halved until none is left. Rows that need none keep the even
grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.models.conditional import LevelScore

_SCOUTS = 96  # points of the first pass
_BULK = 6.0  # standard deviations within which the first pass misses no mode,
_PER_NOISE = 4.0  # its points being at most so many standard deviations of the noise apart
_MOST_SCOUTS, _BEYOND = 512, 16  # there, and beyond on either side
_DEPTH = 40.0  # nats below the peak at which a window may end
_ROUGH = 0.3  # nats: the error of a cell of the first pass,
_LENIENT = 0.05  # and of one that hides no mode, as a share of its depth below the peak
_FINE = 0.25  # nats: the error of a cell of the second, divided by the number of points
_HALVED, _ROUNDS = 8, 40  # cells halved at a time, and how often at most


class Curves(NamedTuple):
    """Scores s of N conditionals at points x, (N, G) each; x ascends, and may repeat."""

    x: Tensor
    s: Tensor


class GridDensity(NamedTuple):
    """log-densities of N conditionals on G points each; piecewise linear scores between them.

    Attributes:
        points: (N, G), ascending; evenly spaced where that resolves the density. The last one of a
            row is repeated where others have more points.
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
        points: G, grid points in each window; more where they do not resolve the density.
    """
    scouts = _scouts(score)
    coarse = (_bends(scouts) / _tolerated(scouts)).amax(1) > 1
    if coarse.any():
        scouts = _refined(score, scouts, coarse, lambda c: _bends(c) / _tolerated(c))
    low, high = _window(scouts)
    u = torch.linspace(0.0, 1.0, points, device=low.device, dtype=low.dtype)
    grid = low[:, None] + (high - low)[:, None] * u
    curves = Curves(grid, score(grid))
    coarse = coarse | (_faults(curves, points) > 1).any(1)
    if coarse.any():
        both = _joined(curves, scouts)
        wide = both.x.shape[1] - points
        padded = [functional.pad(t, (0, wide), mode="replicate") for t in curves]
        some = coarse[:, None]
        both = Curves(*(torch.where(some, a, b) for a, b in zip(both, padded, strict=True)))
        curves = _refined(score, both, coarse, lambda c: _faults(c, points))
    return integrated(*curves)


def integrated(grid: Tensor, s: Tensor) -> GridDensity:
    """Normalise the densities whose scores are s (N, G) on ascending grids (N, G)."""
    log_p = _integrate(grid, s)
    p = log_p.exp()
    parts, corrections = _masses(grid, s, p)
    parts = parts + corrections
    cdf = functional.pad(parts.clamp(min=0).cumsum(1), (1, 0))
    total = cdf[:, -1:]
    return GridDensity(grid, s, log_p - total.log(), cdf / total)


def log_density(score: LevelScore, x: Tensor, *, points: int = 256) -> Tensor:
    """Return log p(x) of N conditionals at x (N,).

    The log-density at the nearest grid point plus the integral of s from there to x; the point may
    lie outside the window, however unlikely.
    """
    d = grid_density(score, points=points)
    x0, s0, log_p0 = nearest(d, x)
    result = log_p0 + 0.5 * (s0 + score(x)) * (x - x0)
    # Outside the window one trapezoid would span the whole way: walk it in a few steps.
    walk = torch.linspace(0.0, 1.0, 9, device=x.device, dtype=x.dtype)
    far = (x < d.points[:, 0]) | (x > d.points[:, -1])
    if far.any():
        path = x0[:, None] + (x - x0)[:, None] * walk
        result = torch.where(far, log_p0 + torch.trapezoid(score(path), path, dim=1), result)
    return result


def nearest(d: GridDensity, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid point nearest to x (N,) in each row, its score and log-density, (N,) each."""
    middles = 0.5 * (d.points[:, 1:] + d.points[:, :-1])
    index = torch.searchsorted(middles.contiguous(), x[:, None].contiguous())
    x0, s0, log_p0 = (t.gather(1, index)[:, 0] for t in (d.points, d.score, d.log_density))
    return x0, s0, log_p0


def _integrate(grid: Tensor, s: Tensor) -> Tensor:
    """Return the integral of s along each row, shifted so that its maximum is 0."""
    steps = 0.5 * (s[:, 1:] + s[:, :-1]) * grid.diff(dim=1)
    log_p = functional.pad(steps.cumsum(1), (1, 0))
    return log_p - log_p.max(1, keepdim=True).values


def _masses(grid: Tensor, s: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mass of each cell by trapezoids, (N, G - 1), and what corrects it.

    p' = p s is known, so the correction at the ends makes it fourth order for free.
    """
    h, dp = grid.diff(dim=1), p * s
    return 0.5 * h * (p[:, 1:] + p[:, :-1]), h.square() / 12 * (dp[:, :-1] - dp[:, 1:])


def _bends(curves: Curves) -> Tensor:
    """Return the error that each cell's trapezoid adds to the integral of s, (N, G - 1), estimated.

    h^3 / 12 |s''|, with the larger second difference of a cell's two ends.
    """
    h = curves.x.diff(dim=1)
    tiny = torch.finfo(h.dtype).tiny
    slopes = curves.s.diff(dim=1) / h.clamp(min=tiny)
    bends = slopes.diff(dim=1).abs() / (h[:, 1:] + h[:, :-1]).clamp(min=tiny)
    around = functional.pad(bends, (1, 1))
    return h**3 / 6 * torch.maximum(around[:, 1:], around[:, :-1])


def _tolerated(curves: Curves) -> Tensor:
    """Return the error that each cell of the first pass may have, (N, G - 1).

    Where s rises there is a valley, behind which a mode may be: nothing may get lost. Elsewhere it
    is enough to know that the mass is negligible.
    """
    log_p = _integrate(*curves)
    depth = -torch.maximum(log_p[:, 1:], log_p[:, :-1])
    rises = curves.s.diff(dim=1) > 0
    valley = rises | functional.pad(rises, (1, 0))[:, :-1] | functional.pad(rises, (0, 1))[:, 1:]
    return _ROUGH + _LENIENT * depth.masked_fill(valley, 0.0)


def _faults(curves: Curves, points: int) -> Tensor:
    """Return the error of each cell in units of what may be, (N, G - 1).

    Of the integral of s, where there is mass on both sides, and of the cell's own share of the
    mass, for which the size of the correction stands.
    """
    log_p = _integrate(*curves)
    before, after = log_p.cummax(1).values, log_p.flip(1).cummax(1).values.flip(1)
    between = torch.minimum(before[:, :-1], after[:, 1:]) > -0.75 * _DEPTH
    parts, corrections = _masses(*curves, log_p.exp())
    shares = corrections.abs() / parts.sum(1, keepdim=True)
    return torch.maximum(_bends(curves) * between, 0.5 * shares) * (points / _FINE)


def _refined(
    score: LevelScore, curves: Curves, rows: Tensor, faults: Callable[[Curves], Tensor]
) -> Curves:
    """Halve cells of some rows until none is at fault.

    Arguments:
        rows: which, bool (N,).
        faults: of a cell; it is halved where they are above 1.
    """
    (active,) = rows.nonzero(as_tuple=True)
    part = Curves(*(t[active] for t in curves))
    for _ in range(_ROUNDS):
        found = faults(part)
        going_on = found.amax(1) > 1
        if not going_on.any():
            break
        active, found = active[going_on], found[going_on]
        part = Curves(*(t[going_on] for t in part))
        worst = found.topk(_HALVED, dim=1).indices
        middle = 0.5 * (part.x.gather(1, worst) + part.x.gather(1, worst + 1))
        x, order = torch.cat([part.x, middle], 1).sort(dim=1)
        s = torch.cat([part.s, score.rows(active)(middle)], 1).gather(1, order)
        part = Curves(x, s)
        curves = Curves(*(functional.pad(t, (0, _HALVED), mode="replicate") for t in curves))
        curves.x[active], curves.s[active] = x, s
    return curves


def _joined(one: Curves, other: Curves) -> Curves:
    """Return the points of both, of the other only those within the first's."""
    ends = [t[:, -1:] for t in one]
    inside = (other.x >= one.x[:, :1]) & (other.x <= ends[0])
    kept = [torch.where(inside, t, end) for t, end in zip(other, ends, strict=True)]
    x, order = torch.cat([one.x, kept[0]], 1).sort(dim=1)
    return Curves(x, torch.cat([one.s, kept[1]], 1).gather(1, order))


def _scouts(score: LevelScore) -> Curves:
    """Return the scores on a grid that reaches as far as there can be mass, and meets every mode.

    Beyond ``reach`` the score points back, so the mass lies within reach plus a few widths of the
    Gaussian tail. The spacing is like sinh: fine near the data, coarse far away. No mode is
    narrower than the noise, and near the data points at its distance miss none.
    """
    tail = score.tail.detach()
    scale = torch.asinh(score.reach.detach() / tail + 10.0)[:, None]
    u = torch.linspace(-1.0, 1.0, _SCOUTS, device=tail.device, dtype=tail.dtype)
    offsets = torch.sinh(scale * u)
    wanted = 2 * _BULK * float(tail.max()) / (_PER_NOISE * score.sigma)
    if wanted > _SCOUTS / 3:  # then the points above are too far apart in the bulk
        n, edge = min(_MOST_SCOUTS, int(wanted) + 1), math.asinh(_BULK)
        bulk = torch.linspace(-_BULK, _BULK, n, device=tail.device, dtype=tail.dtype)
        share = torch.linspace(0.0, 1.0, _BEYOND + 1, device=tail.device, dtype=tail.dtype)[1:]
        beyond = torch.sinh(edge + (scale - edge) * share)
        offsets = torch.cat([-beyond.flip(1), bulk.expand(len(tail), n), beyond], 1)
    mean = score.mean[:, None] if isinstance(score.mean, Tensor) else score.mean
    grid = mean + tail[:, None] * offsets
    return Curves(grid, score(grid))


def _window(scouts: Curves) -> tuple[Tensor, Tensor]:
    """Return ends (N,) of an interval outside which each density is negligible."""
    inside = _integrate(*scouts) > -_DEPTH
    count = inside.shape[1]
    first = (inside.float().argmax(1) - 1).clamp(min=0)
    last = (count - inside.flip(1).float().argmax(1)).clamp(max=count - 1)
    ends = [scouts.x.gather(1, i[:, None])[:, 0] for i in (first, last)]
    return ends[0], ends[1]
