"""Tweedie's formula is the posterior mean, wherever the contexts are the true ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.denoising.rules import Tweedie
from arcsm_cli.denoising.single_step import parallel
from arcsm_cli.denoising.walk import restore
from arcsm_cli.randomness import SampleNoise

Make = Callable[..., Any]
MEAN, SD = (0.5, -1.0, 2.0), (1.0, 0.3, 2.5)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posterior_mean(y: Tensor, sigma: float) -> Tensor:
    """E[x | y] of independent Gaussians."""
    mean, variance = y.new_tensor(MEAN), y.new_tensor(SD).square()
    return mean + variance / (variance + sigma**2) * (y - mean)


@given(sigma=st.floats(0.05, 5.0))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parallel_gives_the_posterior_mean_of_independent_gaussians(
    gaussian_model: Make, sigma: float
) -> None:
    model = gaussian_model(MEAN, SD, levels=(6.0, 0.05))
    y = 3 * normal(20, 3)
    assert (parallel(model, y, sigma) - posterior_mean(y, sigma)).abs().max() < 1e-6


def test_staged_models_answer_with_the_stage_of_the_noise(gaussian_model: Make) -> None:
    model = gaussian_model(MEAN, SD, levels=(2.0, 0.7, 0.1), annealing="staged")
    with torch.no_grad():  # the other stages say something else
        for i in (0, 2):
            model.networks[i].score.out.bias.fill_(1.0)
    y = normal(20, 3)
    assert (parallel(model, y, 0.7, 1) - posterior_mean(y, 0.7)).abs().max() < 1e-6


@pytest.mark.parametrize("sigma", [0.1, 0.6, 3.0])
def test_sequential_gives_the_posterior_mean_of_independent_gaussians(
    gaussian_model: Make, sigma: float
) -> None:
    model = gaussian_model(MEAN, SD, levels=(6.0, 0.1))
    y = normal(20, 3)
    found = restore(model, y, Tweedie(sigma), SampleNoise(0, range(20)))
    assert (found - posterior_mean(y, sigma)).abs().max() < 1e-6


def test_parallel_is_exact_for_dependent_gaussians_at_the_noise_of_the_contexts(
    correlated: Make,
) -> None:
    # y carries the very noise that the model describes: E[x_d | y_<=d], one dimension after another
    model = correlated(4, sigma_min=0.5)
    y = normal(30, 4)
    prior = model.covariance - 0.25 * torch.eye(4, dtype=torch.float64)
    for d in range(4):
        own, noisy = prior[d, : d + 1].clone(), model.covariance[: d + 1, : d + 1]
        # The clean x_d and the noisy past share what the past says; noise is independent.
        own[:d] = model.covariance[d, :d]
        expected = model.mean[d] + (y[:, : d + 1] - model.mean[: d + 1]) @ torch.linalg.solve(
            noisy, own
        )
        assert (parallel(model, y, 0.5)[:, d] - expected).abs().max() < 1e-6


def test_sequential_is_exact_for_dependent_gaussians_given_the_true_past(correlated: Make) -> None:
    model, sigma = correlated(4), 0.6
    x = normal(30, 4)
    y = x.clone()
    y[:, 3] += sigma * normal(30, seed=1)
    # Noise so small that the past is restored as it is, then the last one at its own noise.
    _, centre = model.conditionals(x[:, :3])
    weight = model.sd**2 / (model.sd**2 + sigma**2)
    expected = centre[:, 0] + weight * (y[:, 3] - centre[:, 0])

    def rule(rows: Any, values: Tensor, z: Tensor, d: int) -> Any:
        return Tweedie(sigma if d == 3 else 0.0)(rows, values, z, d)

    rule.draws = 0  # type: ignore[attr-defined]
    found = restore(model, y, rule, SampleNoise(0, range(30)))  # type: ignore[arg-type]
    assert (found[:, 3] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_sequential_is_parallel_over_what_is_restored(random_model: Make, context: str) -> None:
    model = random_model(
        shape=(1, 4, 4), context=context, filters=3, resnet_blocks=1, dropout=0.0, seed=2
    )
    y = normal(3, 16)
    found = restore(model, y, Tweedie(0.4), SampleNoise(0, range(3)))
    for d in (0, 1, 7, 15):
        past = found.clone()
        past[:, d] = y[:, d]
        assert torch.allclose(parallel(model, past, 0.4)[:, d], found[:, d], rtol=0, atol=1e-9)


def test_a_colour_image_is_denoised_value_by_value(random_model: Make) -> None:
    model = random_model(
        shape=(3, 4, 4), context="pixelcnn", filters=3, resnet_blocks=1, dropout=0.0
    )
    assert parallel(model, normal(2, 48), 0.5).shape == (2, 48)
