"""Scores from samples by kernels, against their published formulas and known scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.objectives.kernel_scores import spectral_scores, stein_scores

Estimate = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]
both = pytest.mark.parametrize("estimate", [stein_scores, spectral_scores])


def samples(count: int, size: int = 2, batch: int = 1, seed: int = 0) -> Tensor:
    """Standard normals (batch, count, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, size, generator=generator, dtype=torch.float64)


def kernel_and_gradients(z: Array) -> tuple[Array, Array, float]:
    """k(z_i, z_j), its gradients in z_j (n, n, D), and the squared width; one entry at a time."""
    n, size = z.shape
    squares = [float(np.sum((z[i] - z[j]) ** 2)) for i in range(n) for j in range(i)]
    width = sorted(squares)[(len(squares) - 1) // 2]
    k, gradients = np.zeros((n, n)), np.zeros((n, n, size))
    for i in range(n):
        for j in range(n):
            k[i, j] = np.exp(-np.sum((z[i] - z[j]) ** 2) / (2 * width))
            gradients[i, j] = k[i, j] * (z[i] - z[j]) / width
    return k, gradients, width


def stein_by_formula(z: Array, eta: float) -> Array:
    """Li & Turner 2018, equation 8."""
    k, gradients, _ = kernel_and_gradients(z)
    scores: Array = -np.linalg.inv(k + eta * np.eye(len(z))) @ gradients.sum(1)
    return scores


def spectral_by_formula(z: Array, mass: float) -> Array:
    """Shi et al. 2018: eigenfunctions by Nystroem, coefficients by means of their gradients."""
    k, gradients, _ = kernel_and_gradients(z)
    n = len(z)
    values, vectors = np.linalg.eigh(k)
    order = np.argsort(-values)
    scores, held = np.zeros_like(z), 0.0
    for j in order:
        u, value = vectors[:, j], values[j]
        # psi_j(y) = sqrt(n) / value sum_m u_m k(y, z_m); the gradient of k in its first argument.
        psi = np.array([np.sqrt(n) / value * sum(u[m] * k[i, m] for m in range(n))
                        for i in range(n)])  # fmt: skip
        slopes = np.array([np.sqrt(n) / value * sum(u[m] * gradients[m, i] for m in range(n))
                           for i in range(n)])  # fmt: skip
        scores += np.outer(psi, -slopes.mean(0))
        held += value
        if held >= mass * values.sum():
            break
    return scores


def test_the_stein_estimator_is_its_formula() -> None:
    z = samples(9, size=3, batch=2)
    for found, points in zip(stein_scores(z, eta=1e-2), z, strict=True):
        assert np.allclose(found, stein_by_formula(points.numpy(), 1e-2), rtol=1e-8)


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.99])
def test_the_spectral_estimator_is_its_formula(mass: float) -> None:
    z = samples(9, size=3, batch=2)
    for found, points in zip(spectral_scores(z, mass), z, strict=True):
        assert np.allclose(found, spectral_by_formula(points.numpy(), mass), rtol=1e-8)


@both
def test_the_defaults_are_the_published_ones(estimate: Estimate) -> None:
    z = samples(12)
    defaults = {"eta": 1e-3} if estimate is stein_scores else {"mass": 0.99}
    assert torch.equal(estimate(z), estimate(z, **defaults))  # type: ignore[call-arg]


@both
def test_errors_on_a_gaussian_fall_as_samples_grow(estimate: Estimate) -> None:
    errors = []
    for count, batch in ((10, 60), (50, 20), (250, 6)):
        z = samples(count, batch=batch)
        errors.append(float((estimate(z) + z).square().mean()))
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
    assert errors[2] < 1  # the score's own mean square


@both
def test_estimates_point_as_the_score_of_a_correlated_gaussian_does(estimate: Estimate) -> None:
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    z = samples(300) @ mixing.T
    exact = -z @ torch.linalg.inv(mixing @ mixing.T)
    found = estimate(z)
    assert float((found * exact).sum() / (found.norm() * exact.norm())) > 0.8


@both
def test_every_distribution_is_estimated_by_itself(estimate: Estimate) -> None:
    z = samples(20, batch=3) * torch.tensor([0.1, 1.0, 10.0]).double()[:, None, None]
    for i in range(3):
        assert torch.allclose(estimate(z)[i], estimate(z[i : i + 1])[0], rtol=1e-9)


@both
def test_the_order_of_samples_is_that_of_their_scores(estimate: Estimate) -> None:
    z = samples(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(estimate(z[:, order]), estimate(z)[:, order], rtol=1e-6)


@both
def test_a_shift_of_the_samples_leaves_their_scores(estimate: Estimate) -> None:
    z = samples(20)
    assert torch.allclose(estimate(z + 100), estimate(z), rtol=1e-6)


@both
def test_scores_scale_as_inverse_lengths(estimate: Estimate) -> None:
    z = samples(20)
    assert torch.allclose(estimate(1e-3 * z), 1e3 * estimate(z), rtol=1e-6)


@both
def test_rotated_samples_have_rotated_scores(estimate: Estimate) -> None:
    z = samples(20, size=3)
    rotation = torch.linalg.qr(samples(3, size=3, seed=1)[0]).Q
    assert torch.allclose(estimate(z @ rotation), estimate(z) @ rotation, rtol=1e-5, atol=1e-8)


@both
def test_codes_far_from_the_origin_are_scored_well_in_single_precision(
    estimate: Estimate,
) -> None:
    # Posteriors are narrow and lie where the prior puts them: a width of 0.02 at 3, say.
    z = (0.02 * samples(100, size=4, batch=4) + 3).float()
    exact = estimate(z.double())
    assert (estimate(z).double() - exact).norm() < 1e-2 * exact.norm()


@both
@pytest.mark.parametrize("size", [1, 8])
def test_two_samples_are_enough_for_numbers(estimate: Estimate, size: int) -> None:
    assert estimate(samples(2, size=size, batch=3)).isfinite().all()


@both
def test_samples_that_coincide_give_numbers(estimate: Estimate) -> None:
    assert estimate(torch.full((2, 10, 3), 0.7)).isfinite().all()
