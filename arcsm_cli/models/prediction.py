"""Predictions of each variable from the ones before it: of its value, and of how far off that is.

Both are linear and found in closed form. Where many variables vary together in scale, as the
neighbouring pixels of a photograph do, the errors of the values before tell how wide the next
conditional is, as in models of volatility (Engle 1982).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Parts of the covariances between variables that are given up, as few examples ask for.
_SHRINKAGES = (0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
_HELD_OUT = 5  # every fifth example decides between them
_LEAST_SIZE = 0.003  # squared, in units of an error's deviation
_JITTER = 1e-6  # of the mean variance: what is left of variables that others determine


def linear_prediction(
    x: Tensor, noise: float, *, diagonal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (D,), weights (D, D) and the deviation of the errors (D,) of the best prediction.

    x_d is predicted as mean_d + sum_{j<d} W_dj (x_j - mean_j): the conditional means of a Gaussian
    with the data's covariance, read off its Cholesky factor L (1 / L^-1_dd is the deviation). The
    covariances between variables are shrunk by what is best for every fifth example, left out.

    Arguments:
        x: (N, D) examples, N at least 2.
        noise: deviation of the noise that is added to all values.
        diagonal: predict by the mean alone; weights are 0.

    Example:
        >>> x = torch.randn(1000, 1) * torch.tensor([1.0, 2.0])
        >>> mean, weights, deviation = linear_prediction(x, 0.1)
        >>> bool((weights[1, 0] - 2).abs() < 0.1), bool(deviation[1] < 0.3)
        (True, True)
    """
    values = x.cpu().double()  # not every device has float64
    fitted = torch.arange(len(x)) % _HELD_OUT > 0
    shrinkage = 1.0
    if not diagonal and fitted.sum() > 1 and not fitted.all():
        mean, covariance = _moments(values[fitted], noise)
        others = values[~fitted] - mean
        held_out = others.T @ others / len(others)
        held_out.diagonal().add_(noise**2)
        shrinkage = min(_SHRINKAGES, key=lambda s: _surprise(_shrunk(covariance, s), held_out))
    mean, covariance = _moments(values, noise)
    inverse = _inverse_factor(_shrunk(covariance, shrinkage))
    scale = 1.0 / inverse.diagonal()
    weights = -scale[:, None] * inverse.tril(-1)
    return mean.to(x), weights.to(x), scale.to(x)


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
    mean, weights, _ = linear_prediction(sizes, 0.0)
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


def _moments(x: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of examples (N, D) with noise added."""
    mean = x.mean(0)
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    level = float(covariance.diagonal().mean()) or 1.0
    covariance.diagonal().add_(noise**2 + _JITTER * level)
    return mean, covariance


def _shrunk(covariance: Tensor, shrinkage: float) -> Tensor:
    return (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().diag()


def _inverse_factor(covariance: Tensor) -> Tensor:
    """Return the inverse of the Cholesky factor, lower triangular, (D, D)."""
    one = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    factor = torch.linalg.cholesky(covariance)
    inverse: Tensor = torch.linalg.solve_triangular(factor, one, upper=False)
    return inverse


def _surprise(covariance: Tensor, moments: Tensor) -> float:
    """Return the mean negative log-density of examples of these moments, less a constant."""
    inverse = _inverse_factor(covariance)
    return float(0.5 * (inverse @ moments * inverse).sum() - inverse.diagonal().log().sum())
