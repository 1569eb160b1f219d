"""Predictions of each variable from the ones before it: of its value, and of how far off that is.

Both are linear and found in closed form. Where many variables vary together in scale, as the
neighbouring pixels of a photograph do, the errors of the values before tell how wide the next
conditional is, as in models of volatility (Engle 1982).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Parts of the covariances between variables that are given up, as few examples ask for.
_SHRINKAGES = (0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
_HELD_OUT = 5  # every fifth example decides between them
_LEAST_SIZE = 0.003  # squared, in units of an error's deviation
_JITTER = 1e-6  # of the mean variance: what is left of variables that others determine


class LinearPrediction(NamedTuple):
    """x_d is predicted as mean_d + sum_{j<d} W_dj (x_j - mean_j) + V_d (u - mean u), u given.

    Attributes:
        mean: (D,), of the values.
        weights: W, (D, D).
        scale: (D,), the deviation of the errors.
        by_given: (1 + D, F), the mean of what is given, and below it V.
    """

    mean: Tensor
    weights: Tensor
    scale: Tensor
    by_given: Tensor


def linear_prediction(
    x: Tensor, noise: float, *, diagonal: bool = False, given: Tensor | None = None
) -> LinearPrediction:
    """Return the best linear prediction of each variable by the ones before it.

    It gives the conditional means of a Gaussian with the data's covariance, read off its Cholesky
    factor L (1 / L^-1_dd is the deviation); what is given counts as variables before the first. The
    covariances between variables are shrunk by what is best for every fifth example, left out.

    Arguments:
        x: (N, D) examples, N at least 2.
        noise: deviation of the noise that is added to all values.
        diagonal: predict by the mean alone; weights are 0.
        given: (N, F), what is given of them.

    Example:
        >>> x = torch.randn(1000, 1) * torch.tensor([1.0, 2.0])
        >>> found = linear_prediction(x, 0.1)
        >>> bool((found.weights[1, 0] - 2).abs() < 0.1), bool(found.scale[1] < 0.3)
        (True, True)
    """
    told = 0 if given is None else given.shape[1]
    values = x.cpu().double()  # not every device has float64
    if given is not None:
        values = torch.cat([given.cpu().double(), values], 1)
    fitted = torch.arange(len(x)) % _HELD_OUT > 0
    shrinkage = 1.0
    if not diagonal and fitted.sum() > 1 and not fitted.all():
        mean, covariance = _moments(values[fitted], noise, told)
        others = values[~fitted] - mean
        held_out = others.T @ others / len(others)
        held_out.diagonal()[told:].add_(noise**2)
        shrinkage = min(
            _SHRINKAGES, key=lambda s: _surprise(_shrunk(covariance, s), held_out, told)
        )
    mean, covariance = _moments(values, noise, told)
    inverse = _inverse_factor(_shrunk(covariance, shrinkage))
    scale = 1.0 / inverse.diagonal()[told:]
    weights = -scale[:, None] * inverse.tril(-1)[told:]
    by_given = torch.cat([mean[None, :told], weights[:, :told]])
    found = LinearPrediction(mean[told:], weights[:, told:], scale, by_given)
    return LinearPrediction(*(t.to(x) for t in found))


def scale_prediction(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (D, D) and offsets (D,) of the log-scale of each variable.

    z_d is taken as normal of log-scale offset_d + sum_{j<d} W_dj log_size(z_j): the direction of
    row d is that of the best linear prediction of log_size(z_d), its length and the offset are
    those of the highest likelihood.

    Arguments:
        z: (N, D), errors of `linear_prediction` in units of their deviation.

    Example:
        >>> scale = 2 * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0))
        >>> weights, offsets = scale_prediction(torch.tensor([[1.0, -1.0]]) * scale.exp())
        >>> bool((weights[1, 0] - 1).abs() < 0.1)
        True
    """
    z = z.cpu().double()
    sizes = log_size(z)
    mean, weights = linear_prediction(sizes, 0.0)[:2]
    predicted = (sizes - mean) @ weights.T
    lengths = torch.linspace(0.0, 1.5, 16, dtype=z.dtype)
    squares = torch.stack([(z * (-k * predicted).exp()).square().mean(0) for k in lengths])
    offsets = squares.clamp(min=_LEAST_SIZE).log() / 2
    # The mean of the predictions is 0, so that the likelihood is highest where the offset is least.
    best = offsets.argmin(0)
    weights = lengths[best][:, None] * weights
    return weights, offsets.gather(0, best[None])[0] - weights @ mean


def log_size(z: Tensor) -> Tensor:
    """Return log |z|, less steep near 0, where noise decides."""
    return 0.5 * torch.log(z.square() + _LEAST_SIZE)


def _moments(x: Tensor, noise: float, told: int) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of (N, D), noise added to all but the first."""
    mean = x.mean(0)
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    level = float(covariance.diagonal().mean()) or 1.0
    covariance.diagonal()[told:].add_(noise**2 + _JITTER * level)
    covariance.diagonal()[:told].add_(_JITTER * level)
    return mean, covariance


def _shrunk(covariance: Tensor, shrinkage: float) -> Tensor:
    return (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().diag()


def _inverse_factor(covariance: Tensor) -> Tensor:
    """Return the inverse of the Cholesky factor, lower triangular, (D, D)."""
    one = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    factor = torch.linalg.cholesky(covariance)
    inverse: Tensor = torch.linalg.solve_triangular(factor, one, upper=False)
    return inverse


def _surprise(covariance: Tensor, moments: Tensor, told: int) -> float:
    """Return the mean negative log-density of examples given the first, less a constant."""
    inverse = _inverse_factor(covariance)
    own = inverse[told:]
    return float(0.5 * (own @ moments * own).sum() - inverse.diagonal()[told:].log().sum())
