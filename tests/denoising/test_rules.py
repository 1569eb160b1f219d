"""Each rule follows the posterior of one scalar where that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.denoising.level_grid import LevelGrid
from arcsm_cli.denoising.rules import (
    AnnealedLangevin,
    Flow,
    MaskPosterior,
    Posterior,
    SaltPepperPosterior,
    diffuse_back,
)
from arcsm_cli.sampling.langevin import Langevin

Make = Callable[..., Any]
Check = Callable[[Tensor], None]
N = 5_000


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posterior(row: Any, y: float, high: float, low: float) -> tuple[Tensor, Tensor]:
    """A grid and the distribution function on it of the value at ``low`` given y at ``high``."""
    x = torch.linspace(-2, 2, 8001, dtype=torch.float64)
    prior = row.at(low).log_density(x[None])[0]
    log_p = prior - (y - x).square() / (2 * (high**2 - low**2))
    p = (log_p - log_p.max()).exp()
    return x, p.cumsum(0) / p.sum()


# the reverse diffusion


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("sd", [0.05, 1.0])
def test_normal_values_follow_their_posterior_whatever_the_steps(
    make_rows: Make, assert_uniform: Check, steps: int, sd: float
) -> None:
    rows, high, low = make_rows(N, (1.0,), (0.3,), sd), 0.6, 0.1
    x = diffuse_back(rows, torch.full((N,), 0.9, dtype=torch.float64), high, low, normal(N, steps))
    above, below = sd**2 + low**2, high**2 - low**2
    mean = 0.3 + above / (above + below) * (0.9 - 0.3)
    assert_uniform(torch.special.ndtr((x - mean) / math.sqrt(above * below / (above + below))))


@pytest.mark.parametrize("y", [-1.0, 0.0, 0.8])
def test_the_posterior_of_a_mixture_is_followed_by_many_steps(
    make_rows: Make, assert_uniform: Check, y: float
) -> None:
    rows = make_rows(N)
    x = diffuse_back(rows, torch.full((N,), y, dtype=torch.float64), 0.6, 0.1, normal(N, 60))
    grid, cdf = posterior(make_rows(1), y, 0.6, 0.1)
    assert_uniform(cdf[torch.searchsorted(grid, x).clamp(max=len(grid) - 1)])


@pytest.mark.parametrize("y", [-1.0, 0.0, 0.8])
def test_the_rules_steps_give_a_mixtures_mean_and_variance_nearly(
    make_rows: Make, y: float
) -> None:
    rule = Posterior(0.6, 0.1)
    values = torch.full((N,), y, dtype=torch.float64)
    rows = make_rows(N)
    x = rule(rows, values, normal(N, rule.draws), 0).value
    grid, cdf = posterior(make_rows(1), y, 0.6, 0.1)
    p = cdf.diff(prepend=cdf.new_zeros(1))
    mean = float((p * grid).sum())
    sd = float((p * (grid - mean).square()).sum().sqrt())
    assert abs(float(x.mean()) - mean) < 0.05 * sd + 3 * sd / math.sqrt(N)
    assert float(x.std()) == pytest.approx(sd, rel=0.1)


def test_no_noise_to_take_off_leaves_the_value(make_rows: Make) -> None:
    x = normal(50)
    assert torch.equal(diffuse_back(make_rows(50), x, 0.1, 0.1, normal(50, 6)), x)


# normal noise


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_weights_are_the_densities_of_the_observations(
    make_rows: Make, image: bool, sigma: float
) -> None:
    y = torch.linspace(-1.5, 1.5, 40, dtype=torch.float64)
    rows, rule = make_rows(40, image=image), Posterior(sigma, 0.1)
    weight = rule(rows, y, normal(40, rule.draws), 0).log_weight
    assert (weight - rows.at(sigma).log_density(y)).abs().max() < 0.06


def test_the_mean_is_the_expected_clean_value(make_rows: Make) -> None:
    y = torch.linspace(-1.5, 1.5, 40, dtype=torch.float64)
    rows, rule = make_rows(40), Posterior(0.5, 0.1)
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    prior = rows.at(1e-9).log_density(x.expand(40, -1))
    p = (prior - (y[:, None] - x).square() / (2 * 0.5**2)).softmax(1)
    found = rule(rows, y, normal(40, rule.draws), 0)
    assert (found.mean - (p * x).sum(1)).abs().max() < 1e-6


def test_expectations_given_the_value_average_to_the_mean(make_rows: Make) -> None:
    y, rule = torch.full((N,), 0.2, dtype=torch.float64), Posterior(0.5, 0.1)
    found = rule(make_rows(N), y, normal(N, rule.draws), 0)
    assert float(found.given_value.mean()) == pytest.approx(float(found.mean[0]), abs=0.03)


@pytest.mark.parametrize("image", [False, True])
def test_grids_know_the_mean_of_a_conditional(make_rows: Make, image: bool) -> None:
    grid = LevelGrid.of(make_rows(3, image=image), 0.3)
    assert (grid.mean() - (0.7 * 0.5 - 0.3 * 0.6)).abs().max() < 3e-3


def test_the_flow_ends_where_the_observations_quantile_is(make_rows: Make) -> None:
    rows = make_rows(40, (1.0,), (0.3,), 0.4)
    y = torch.linspace(-1, 1, 40, dtype=torch.float64)
    found = Flow(0.6, 0.1, steps=200)(rows, y, normal(40, 0), 0)
    scale = math.hypot(0.4, 0.1) / math.hypot(0.4, 0.6)
    assert (found.value - (0.3 + scale * (y - 0.3))).abs().max() < 1e-4


def test_langevin_starts_from_the_observation(make_rows: Make) -> None:
    rule = AnnealedLangevin(Langevin((0.1,), 1))
    y = normal(40)
    z = normal(40, rule.draws)
    rows = make_rows(40)
    step = 0.2 * 0.1**2
    expected = y + step / 2 * rows.at(0.1)(y) + math.sqrt(step) * z[:, 0]
    assert torch.allclose(rule(rows, y, z, 0).value, expected, rtol=0, atol=1e-12)


# salt and pepper


def test_a_grey_value_is_never_changed(make_rows: Make) -> None:
    rule = SaltPepperPosterior(0.3, 0.1)
    y = torch.linspace(-0.999, 0.999, 50, dtype=torch.float64)
    found = rule(make_rows(50, image=True), y, normal(50, rule.draws), 0)
    assert torch.equal(found.mean, y)
    assert torch.equal(found.given_value, y)


def test_an_end_that_clean_values_never_reach_is_noise(make_rows: Make) -> None:
    rows = make_rows(N, (0.4, 0.6), (-0.5, -0.2), 0.02, image=True)
    rule = SaltPepperPosterior(0.1, 0.1)
    y = torch.ones(N, dtype=torch.float64)
    found = rule(rows, y, normal(N, rule.draws), 0)
    assert (found.mean + 0.4 * 0.5 + 0.6 * 0.2).abs().max() < 0.02
    assert (found.value > 0.6).double().mean() < 0.01


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_an_end_is_as_clean_as_the_conditional_says(make_rows: Make, p: float) -> None:
    # Nearly a binary pixel: 1 with probability 0.25.
    rows = make_rows(N, (0.75, 0.25), (-1.0, 1.0), 1e-3, image=True)
    rule = SaltPepperPosterior(p, 0.1)
    y = torch.ones(N, dtype=torch.float64)
    found = rule(rows, y, normal(N, rule.draws), 0)
    clean = (1 - p) * 0.25 / ((1 - p) * 0.25 + p / 2)
    mean = clean + (1 - clean) * (0.25 - 0.75)
    assert float(found.mean[0]) == pytest.approx(mean, abs=0.02)
    assert float(found.given_value.mean()) == pytest.approx(mean, abs=0.05)
    assert float(found.log_weight[0]) == pytest.approx(math.log((1 - p) * 0.25 + p / 2), abs=0.03)


# masks


def test_known_values_stay_as_they_are(make_rows: Make) -> None:
    y, hidden = normal(30), torch.tensor([True, False])
    for blur in (0.1, 0.3):
        rule = MaskPosterior(hidden, 0.1, blur)
        found = rule(make_rows(30, image=True), y, normal(30, rule.draws), 1)
        assert torch.equal(found.mean, y)
        assert torch.equal(found.given_value, y)


def test_known_values_go_on_at_the_last_level(make_rows: Make, assert_uniform: Check) -> None:
    y = torch.full((N,), 0.2, dtype=torch.float64)
    rule = MaskPosterior(torch.tensor([False]), 0.1, 0.3)
    found = rule(make_rows(N, image=True), y, normal(N, rule.draws), 0)
    assert_uniform(torch.special.ndtr((found.value - 0.2) / 0.1))


@pytest.mark.parametrize("blur", [0.1, 0.3])
def test_a_known_value_weighs_what_its_density_is_at_the_last_level(
    make_rows: Make, blur: float
) -> None:
    rows = make_rows(50, (0.3, 0.7), (-0.4, 0.3), 0.1, image=True)
    rule, y = MaskPosterior(torch.tensor([False]), 0.1, blur), normal(50) * 0.4
    found = rule(rows, y, normal(50, rule.draws), 0)
    assert (found.log_weight - rows.at(0.1).log_density(y)).abs().max() < 0.06


@pytest.mark.parametrize("blur", [0.1, 0.3])
def test_hidden_values_follow_the_conditional(
    make_rows: Make, assert_uniform: Check, blur: float
) -> None:
    rows = make_rows(N, (0.3, 0.7), (-0.4, 0.3), 0.25, image=True)
    rule = MaskPosterior(torch.tensor([True]), 0.1, blur)
    found = rule(rows, torch.zeros(N, dtype=torch.float64), normal(N, rule.draws), 0)
    sd = math.hypot(0.25, 0.1)
    assert_uniform(
        0.3 * torch.special.ndtr((found.value + 0.4) / sd)
        + 0.7 * torch.special.ndtr((found.value - 0.3) / sd)
    )
    assert found.log_weight.abs().max() == 0
