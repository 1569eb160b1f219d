"""Scores of an implicit distribution from its samples, by kernels: Stein and spectral estimators.

Both take n samples of each of B distributions and return the scores at these very samples. The
kernel is k(z, y) = exp(-|z - y|^2 / (2 w^2)), its width w the median distance between the samples
of a distribution (the median heuristic).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def stein_scores(z: Tensor, eta: float = 1e-3) -> Tensor:
    """Return scores (B, n, D) at samples z (B, n, D) by Stein's identity.

    G = -(K + eta I)^-1 <grad, K>, where row i of <grad, K> is sum_j of the gradient of k(z_i, z_j)
    in z_j (Li & Turner 2018, equation 8): a ridge regression on Stein's identity
    E[k(z, y) s(y) + grad_y k(z, y)] = 0.
    """
    z = z - z.mean(1, keepdim=True)  # far from the origin single precision would not do
    k, square_width = _kernel(z)
    ridge = eta * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    # Without an error where codes overflow: the scores are then not numbers, which training sees.
    factor = torch.linalg.cholesky_ex(k + ridge).L
    scores: Tensor = torch.cholesky_solve(-_summed_gradients(k, z, square_width), factor)
    return scores


def spectral_scores(z: Tensor, mass: float = 0.99) -> Tensor:
    """Return scores (B, n, D) at samples z (B, n, D) by the spectral estimator.

    The score is expanded in the kernel's eigenfunctions, estimated from the samples (Nystroem):
    psi_j(z) = sqrt(n) / lambda_j sum_m u_mj k(z, z_m), with coefficients beta_j = -mean over
    samples of grad psi_j (Shi et al. 2018, equations 10 to 13), up to the number of eigenvalues
    that hold ``mass`` of their sum.
    """
    z = z - z.mean(1, keepdim=True)
    k, square_width = _kernel(z)
    try:
        values, vectors = torch.linalg.eigh(k)  # ascending
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return torch.full_like(z, math.nan)  # of codes that overflow: training sees it
    values = values.clamp(min=0)
    # From the largest on: those needed to reach the mass.
    before = values.flip(-1).cumsum(-1).flip(-1) - values
    kept = before < mass * values.sum(-1, keepdim=True)
    inverse = torch.where(kept, 1 / values.clamp(min=1e-30), 0.0)
    # At the samples psi_j(z_i) = sqrt(n) u_ij; sum_i grad psi_j(z_i) = sqrt(n) / lambda_j u_j'R.
    summed = vectors.mT @ _summed_gradients(k, z, square_width)
    scores: Tensor = -vectors @ (inverse[..., None] * summed)
    return scores


def _kernel(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kernel's matrix (B, n, n) and its squared width (B, 1, 1) of centred samples."""
    n = z.shape[1]
    norm = z.square().sum(-1, keepdim=True)
    square = torch.baddbmm(norm + norm.mT, z, z.mT, alpha=-2).clamp_(min=0)
    upper = torch.triu_indices(n, n, 1, device=z.device)
    median = square[:, upper[0], upper[1]].median(-1).values.clamp(min=1e-12)
    width = median[:, None, None]
    kernel: Tensor = torch.exp(-square / (2 * width))
    return kernel, width


def _summed_gradients(k: Tensor, z: Tensor, square_width: Tensor) -> Tensor:
    """Return row i = sum_j of the gradient of k(z_i, z_j) in z_j, (B, n, D)."""
    # d/dz_j k = k_ij (z_i - z_j) / w^2
    return (k.sum(-1, keepdim=True) * z - k @ z) / square_width
