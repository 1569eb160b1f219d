"""The walk with particles: E[x | y] of a whole example, as more of them are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.denoising import walk as walk_module
from arcsm_cli.denoising.rules import Flow, MaskPosterior, Posterior, Tweedie
from arcsm_cli.denoising.walk import restore
from arcsm_cli.randomness import SampleNoise
from tests.denoising.exact import CorrelatedGaussian, KnownModel

Make = Callable[..., Any]
SIGMA, SIGMA_MIN = 0.6, 0.1


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(model: Any, y: Tensor, particles: int, lag: int, rule: Any = None) -> Tensor:
    rule = Posterior(SIGMA, SIGMA_MIN) if rule is None else rule
    noise = SampleNoise(3, range(len(y)))
    return restore(model, y, rule, noise, particles=particles, lag=lag)


@pytest.fixture
def gaussian(known_models: None) -> CorrelatedGaussian:
    return CorrelatedGaussian(3, sd=0.8, sigma_min=SIGMA_MIN)


@pytest.fixture
def switch(known_models: None) -> KnownModel:
    """Two scalars, either both near -0.6 or both near 0.6: the second decides about the first."""

    def conditionals(past: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.tensor([-0.6, 0.6], dtype=torch.float64).expand(len(past), 2)
        if past.shape[1] == 0:
            return torch.full_like(both, 0.5), both
        up = torch.sigmoid(8 * past[:, -1])
        return torch.stack([1 - up, up], 1).clamp(min=1e-12), both

    return KnownModel(conditionals, 2, 0.1, SIGMA_MIN)


def by_quadrature(model: KnownModel, y: Tensor) -> Tensor:
    """E[x | y] of two scalars, by sums over the model's own densities at the last level."""
    x = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    noise = 2 * (SIGMA**2 - SIGMA_MIN**2)
    none = x.new_zeros(1, 0)
    first = model.rows(none)
    second = model.rows(x[:, None])
    prior = first.at(SIGMA_MIN).log_density(x[None])[0][:, None] + second.at(SIGMA_MIN).log_density(
        x.expand(301, -1)
    )
    clean = [
        (x[None] + SIGMA_MIN**2 * first.at(SIGMA_MIN)(x[None]))[0][:, None].expand(301, 301),
        x + SIGMA_MIN**2 * second.at(SIGMA_MIN)(x.expand(301, -1)),
    ]
    result = []
    for row in y:
        log_p = prior - ((row[0] - x).square()[:, None] + (row[1] - x).square()) / noise
        p = (log_p - log_p.max()).exp()
        result.append(torch.stack([(p * c).sum() / p.sum() for c in clean]))
    return torch.stack(result)


def test_particles_find_the_posterior_mean_of_a_correlated_gaussian(
    gaussian: CorrelatedGaussian,
) -> None:
    y = normal(4, 3)
    exact = gaussian.clean_mean(gaussian.posterior_mean(y, SIGMA))
    assert (run(gaussian, y, 2000, 3) - exact).abs().max() < 0.04


def test_more_particles_come_nearer(gaussian: CorrelatedGaussian) -> None:
    y = normal(40, 3)
    exact = gaussian.clean_mean(gaussian.posterior_mean(y, SIGMA))
    errors = [float((run(gaussian, y, p, 3) - exact).square().mean()) for p in (4, 30, 200)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_particles_find_the_posterior_mean_where_later_values_decide(switch: KnownModel) -> None:
    y = torch.tensor([[0.1, 0.9], [0.1, -0.9], [-0.4, 0.7], [0.0, 0.0]], dtype=torch.float64)
    assert (run(switch, y, 2000, 2) - by_quadrature(switch, y)).abs().max() < 0.03


def test_without_a_lag_later_values_have_no_say(switch: KnownModel) -> None:
    y = torch.tensor([[0.1, 0.9], [0.1, -0.9]], dtype=torch.float64)
    found = run(switch, y, 50, 0)
    rows = switch.rows(y[:1, :0])
    expected = 0.1 + SIGMA**2 * float(rows.at(SIGMA)(y[:1, 0]))
    assert (found[:, 0] - expected).abs().max() < 1e-6


def test_without_a_lag_the_last_scalar_is_the_same(gaussian: CorrelatedGaussian) -> None:
    y = normal(8, 3)
    assert torch.allclose(run(gaussian, y, 20, 0)[:, -1], run(gaussian, y, 20, 3)[:, -1])


def test_a_lag_beyond_the_end_is_the_end(gaussian: CorrelatedGaussian) -> None:
    y = normal(8, 3)
    assert torch.equal(run(gaussian, y, 20, 3), run(gaussian, y, 20, 99))


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_one_particle_reports_expectations_whatever_the_lag(
    gaussian: CorrelatedGaussian, lag: int
) -> None:
    y = normal(8, 3)
    assert torch.allclose(run(gaussian, y, 1, lag), run(gaussian, y, 1, 0))


def test_a_hidden_value_is_found_from_what_comes_after(switch: KnownModel) -> None:
    y = torch.tensor([[0.0, 0.6], [0.0, -0.6]], dtype=torch.float64)
    rule = MaskPosterior(torch.tensor([True, False]), SIGMA_MIN, 0.3)
    found = run(switch, y, 2000, 2, rule)
    assert torch.allclose(found[:, 1], y[:, 1], rtol=0, atol=1e-12)
    assert (found[:, 0] - y[:, 1]).abs().max() < 0.1


@pytest.mark.parametrize(
    ("hidden", "blur"),
    [
        pytest.param([True, True, False], 0.3, id="all before", marks=pytest.mark.slow),
        pytest.param([True, False, True], 0.3, id="before and after"),
        pytest.param(
            [True, True, False], SIGMA_MIN, id="by the last level alone", marks=pytest.mark.slow
        ),
    ],
)
def test_drawn_completions_have_the_moments_of_the_unknown_given_the_known(
    gaussian: CorrelatedGaussian, hidden: list[bool], blur: float
) -> None:
    mask = torch.tensor(hidden)
    y = torch.tensor([[0.8, -0.5, 1.9]], dtype=torch.float64)
    rule, noise = MaskPosterior(mask, SIGMA_MIN, blur), SampleNoise(3, range(600))
    found = restore(gaussian, y.expand(600, -1), rule, noise, particles=32, draw=True)  # type: ignore[arg-type]
    assert torch.equal(found[:, ~mask], y.expand(600, -1)[:, ~mask])
    # The model's own law: noisy values given the known, then what is expected without the noise.
    # Of a known value the past is kept with the noise of the last level.
    covariance, eye = gaussian.covariance, torch.eye(3, dtype=torch.float64)
    inverse = torch.linalg.inv(covariance[~mask][:, ~mask])
    gain = covariance[mask][:, ~mask] @ inverse
    mean = y.clone()
    mean[:, mask] = gaussian.mean[mask] + (y - gaussian.mean)[:, ~mask] @ gain.T
    spread = covariance[mask][:, mask] - gain @ covariance[~mask][:, mask]
    zero = gaussian.clean_mean(torch.zeros(1, 3, dtype=torch.float64))
    linear = (gaussian.clean_mean(eye) - zero)[mask][:, mask].T
    assert (found.mean(0) - gaussian.clean_mean(mean)[0])[mask].abs().max() < 0.11
    assert (found[:, mask].T.cov() - linear @ spread @ linear.T).abs().max() < 0.1


@pytest.mark.slow
def test_completions_agree_with_what_comes_after(switch: KnownModel) -> None:
    y = torch.tensor([0.6, -0.6], dtype=torch.float64).repeat(200)
    rule = MaskPosterior(torch.tensor([True, False]), SIGMA_MIN, 0.3)
    known, noise = torch.stack([y, y], 1), SampleNoise(3, range(400))
    found = restore(switch, known, rule, noise, particles=32, draw=True)  # type: ignore[arg-type]
    assert ((found[:, 0] * y) > 0).double().mean() > 0.97
    assert 0.05 < float((found[:, 0] - y).std()) < 0.15


def test_one_drawn_particle_is_a_plain_sample(gaussian: CorrelatedGaussian) -> None:
    y, mask = normal(2000, 3), torch.ones(3, dtype=torch.bool)
    noise = SampleNoise(3, range(2000))
    found = restore(gaussian, y, MaskPosterior(mask, SIGMA_MIN, 0.3), noise, draw=True)  # type: ignore[arg-type]
    assert (found.mean(0) - gaussian.mean).abs().max() < 0.1


@pytest.mark.parametrize("rule", [Posterior(0.5, 0.1), Flow(0.5, 0.1), Tweedie(0.5)], ids=str)
@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_an_example_does_not_depend_on_those_beside_it(
    random_model: Make, context: str, rule: Any
) -> None:
    model = random_model(
        shape=(1, 4, 4), context=context, filters=3, resnet_blocks=1, dropout=0.0, levels=(1.0, 0.1)
    )
    y = normal(5, 16)
    particles = 4 if isinstance(rule, Posterior) else 1
    lag = 6 if particles > 1 else 0
    together = restore(model, y, rule, SampleNoise(0, range(5)), particles=particles, lag=lag)
    alone = restore(model, y[3:4], rule, SampleNoise(0, [3]), particles=particles, lag=lag)
    assert torch.allclose(together[3:4], alone, rtol=0, atol=1e-6)


def test_random_numbers_held_at_a_time_do_not_matter(
    gaussian: CorrelatedGaussian, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = normal(4, 3)
    whole = run(gaussian, y, 5, 2)
    monkeypatch.setattr(walk_module, "_NOISE_NUMBERS", 1)
    assert torch.equal(run(gaussian, y, 5, 2), whole)


def test_every_dimension_is_told(gaussian: CorrelatedGaussian) -> None:
    ticks: list[int] = []
    restore(gaussian, normal(2, 3), Tweedie(0.5), SampleNoise(0, range(2)), tick=ticks.append)  # type: ignore[arg-type]
    assert ticks == [1, 1, 1]


# resampling


@given(raw=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12), z=st.floats(-3, 3))
@settings(deadline=None)
def test_every_particle_goes_on_as_often_as_its_weight_says(raw: list[float], z: float) -> None:
    w = torch.tensor([[*raw, 20.0]], dtype=torch.float64)  # one so heavy that it must resample
    w = w / w.sum()
    found = walk_module._resampled(w, torch.tensor([z], dtype=torch.float64))
    assert found is not None
    counts = found[0][0].bincount(minlength=w.shape[1])
    assert ((counts - w[0] * w.shape[1]).abs() < 1 + 1e-9).all()


def test_resampling_is_unbiased() -> None:
    n, particles = 20_000, 5
    w = torch.tensor([0.02, 0.7, 0.13, 0.05, 0.1], dtype=torch.float64).expand(n, -1)
    found = walk_module._resampled(w, normal(n))
    assert found is not None
    counts = torch.stack([(found[0] == i).sum(1).double() for i in range(particles)], 1)
    assert (counts.mean(0) - particles * w[0]).abs().max() < 0.02


def test_even_weights_are_left_alone() -> None:
    assert walk_module._resampled(torch.full((3, 4), 0.25), torch.zeros(3)) is None


def test_only_examples_in_need_are_resampled() -> None:
    w = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.97, 0.01, 0.01, 0.01]])
    found = walk_module._resampled(w, torch.zeros(2))
    assert found is not None
    assert found[1].tolist() == [False, True]
    assert found[0].tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
