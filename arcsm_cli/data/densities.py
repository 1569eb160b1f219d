"""Closed-form log densities of the synthetic sets, perturbed by Gaussian noise, and entropies."""

import math
import re

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.twod import (
    BOARD_CELLS,
    BOARD_SIDE,
    GAUSSIANS_RADIUS,
    GAUSSIANS_SCALE,
    board_corners,
    gaussian_covariance,
    gaussians_means,
)
from arcsm_cli.errors import UsageError


def has_density(name: str) -> bool:
    """Tell whether `log_density` knows a data set, named with its split or without."""
    name = _base(name)
    return name in ("8gaussians", "checkerboard") or _dimensions(name) is not None


def log_density(name: str, x: Tensor, sigma: float) -> Tensor:
    """Return the log density of a data set plus independent N(0, sigma^2) noise.

    Arguments:
        name: ``8gaussians``, ``checkerboard`` or ``gaussian:D``, with a split or without.
        x: Points, shape (..., D), in the data's own scale; the result is differentiable in them.
        sigma: Standard deviation of the noise, 0 or more.

    Returns:
        Nats, shape (...), of the dtype of ``x``.

    Raises:
        UsageError: The data set has no closed-form density.

    Example:
        >>> x = torch.zeros(2, dtype=torch.float64)
        >>> round(log_density("gaussian:2", x, 0.0).item(), 4)
        -1.3271
    """
    name = _base(name)
    if name == "8gaussians":
        return _mixture(x, sigma)
    if name == "checkerboard":
        return _board(x, sigma)
    dimensions = _dimensions(name)
    if dimensions is None:
        raise UsageError(
            f"'{name}' has no closed-form density: 8gaussians, checkerboard and gaussian:D have"
        )
    return _gaussian(x, dimensions, sigma)


def entropy(name: str, sigma: float) -> float:
    """Return the differential entropy, in nats, of a data set plus N(0, sigma^2) noise.

    Exact for ``gaussian:D`` and the unperturbed board; otherwise by quadrature on a grid, with an
    error far below 1e-6.

    Raises:
        UsageError: The data set has no closed-form density.

    Example:
        >>> round(entropy("8gaussians", 0.05), 3)
        0.535
    """
    name = _base(name)
    dimensions = _dimensions(name)
    if dimensions is not None:
        covariance = gaussian_covariance(dimensions)
        covariance.diagonal().add_(sigma**2)
        return float(0.5 * torch.linalg.slogdet(2 * math.pi * math.e * covariance).logabsdet)
    if name == "checkerboard" and sigma == 0:
        return math.log(len(board_corners()) * BOARD_SIDE**2)
    nodes, weights = _quadrature(name, sigma)
    total = 0.0
    for x, weight in zip(nodes, weights, strict=True):  # a line at a time, to bound the memory
        log_p = log_density(name, torch.stack([x.expand_as(nodes), nodes], dim=1), sigma)
        # where the density is zero to the last bit, 0 times minus infinity counts as nothing
        total -= float(weight * (weights * log_p.exp() * log_p).nan_to_num().sum())
    return total


def _quadrature(name: str, sigma: float) -> tuple[Tensor, Tensor]:
    """Return nodes and weights along one axis: Gauss-Legendre in panels as wide as the features."""
    if name == "checkerboard":
        # the density varies around the edges of the squares and is flat, or zero, in between
        edges = (np.arange(BOARD_CELLS + 1) - BOARD_CELLS / 2) * BOARD_SIDE
        breaks = np.unique(edges[:, None] + sigma * np.arange(-12, 13, 2))
    else:
        scale = math.hypot(sigma, GAUSSIANS_SCALE)
        edge = GAUSSIANS_RADIUS + 12 * scale
        breaks = np.linspace(-edge, edge, 1 + math.ceil(edge / scale))
    node, weight = np.polynomial.legendre.leggauss(12)
    half = np.diff(breaks)[:, None] / 2
    nodes = breaks[:-1, None] + half * (1 + node)
    return torch.from_numpy(nodes.ravel()), torch.from_numpy((half * weight).ravel())


def _base(name: str) -> str:
    return re.sub(r":(train|valid|test)$", "", name)


def _dimensions(name: str) -> int | None:
    match = re.fullmatch(r"gaussian:([1-9][0-9]{0,3})", name)
    return int(match.group(1)) if match else None


def _gaussian(x: Tensor, dimensions: int, sigma: float) -> Tensor:
    covariance = gaussian_covariance(dimensions)
    covariance.diagonal().add_(sigma**2)
    factor = torch.linalg.cholesky(covariance)
    log_scale = float(factor.diagonal().log().sum())
    whitened = torch.linalg.solve_triangular(factor.to(x), x[..., None], upper=False).squeeze(-1)
    constant = dimensions / 2 * math.log(2 * math.pi) + log_scale
    square: Tensor = whitened.square().sum(-1)
    return square / -2 - constant


def _mixture(x: Tensor, sigma: float) -> Tensor:
    variance = GAUSSIANS_SCALE**2 + sigma**2
    square = (x[..., None, :] - torch.from_numpy(gaussians_means()).to(x)).square().sum(-1)
    constant = math.log(8 * 2 * math.pi * variance)
    return torch.logsumexp(square / (-2 * variance), -1) - constant


def _board(x: Tensor, sigma: float) -> Tensor:
    corners = torch.from_numpy(board_corners()).to(x)
    low, high = x[..., None, :] - corners - BOARD_SIDE, x[..., None, :] - corners
    if sigma == 0:
        inside = ((low <= 0) & (high >= 0)).all(-1).any(-1)
        constant = math.log(BOARD_CELLS**2 / 2 * BOARD_SIDE**2)
        return torch.where(inside, x.new_tensor(-constant), -math.inf)
    # Each square gives the product of two differences of error functions. Both ends are taken
    # on the side where the difference is of small tails, not of numbers close to one.
    low, high = low / sigma, high / sigma
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_high = torch.special.log_ndtr(high)
    log_mass = log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high))
    constant = math.log(BOARD_CELLS**2 / 2 * BOARD_SIDE**2)
    return torch.logsumexp(log_mass.sum(-1), -1) - constant
