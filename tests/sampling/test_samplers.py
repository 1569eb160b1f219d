"""Each sampler draws from the density that the scores define."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.models.quadrature import grid_density
from arcsm_cli.sampling.grid import Grid, invert_cdf
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow

Make = Callable[..., Any]
Check = Callable[[Tensor], None]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def first_dimension(model: Any, batch: int) -> Conditionals:
    states = model.incremental(torch.empty(batch, 0))
    return Conditionals(ConditionalModel(model), [state.contexts() for state in states], 0)


# grid


def test_grid_draws_the_exact_quantiles(exact_rows: Make) -> None:
    z = torch.linspace(-4, 4, 200, dtype=torch.float64)[:, None]
    rows = exact_rows(len(z))
    x = Grid(0.1, points=1024)(rows, z)
    assert (rows.cdf(x, 0.1) - torch.special.ndtr(z[:, 0])).abs().max() < 1e-4


def test_grid_follows_the_density(exact_rows: Make, assert_uniform: Check) -> None:
    rows = exact_rows(10_000)
    assert_uniform(rows.cdf(Grid(0.1)(rows, normal(10_000, 1)), 0.1))


def test_grid_does_not_depend_on_how_rows_are_grouped(exact_rows: Make) -> None:
    z = normal(300, 1)
    together = Grid(0.1)(exact_rows(300), z)
    alone = torch.cat([Grid(0.1)(exact_rows(1), row[None]) for row in z[120:140]])
    assert torch.allclose(together[120:140], alone, rtol=0, atol=1e-12)


def test_a_coarse_grid_is_enough_for_a_smooth_conditional(exact_rows: Make) -> None:
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)
    rows = exact_rows(50)
    x = invert_cdf(grid_density(rows.at(3.0), points=64), z)
    assert (rows.cdf(x, 3.0) - torch.special.ndtr(z)).abs().max() < 2e-4


@pytest.mark.parametrize("extreme", [-40.0, 40.0])
def test_quantiles_beyond_the_grid_are_its_ends(exact_rows: Make, extreme: float) -> None:
    density = grid_density(exact_rows(2).at(0.1))
    x = invert_cdf(density, torch.full((2,), extreme, dtype=torch.float64))
    assert ((x >= density.points[:, 0]) & (x <= density.points[:, -1])).all()


def test_quantiles_rise_with_the_random_number(exact_rows: Make) -> None:
    z = torch.linspace(-6, 6, 500, dtype=torch.float64)[:, None]
    assert (Grid(0.1)(exact_rows(500), z).diff() >= 0).all()


# ode


def test_ode_follows_the_density_of_the_last_level(exact_rows: Make, assert_uniform: Check) -> None:
    rows = exact_rows(10_000)
    x = ProbabilityFlow(3.0, 0.1, steps=40)(rows, normal(10_000, 1))
    assert_uniform(rows.cdf(x, 0.1))


@pytest.mark.parametrize(("sigma_max", "exact"), [(1.0, True), (4.0, True), (4.0, False)], ids=str)
def test_ode_starts_from_the_first_levels_density(
    exact_rows: Make, assert_uniform: Check, sigma_max: float, exact: bool
) -> None:
    rows = exact_rows(10_000, (sigma_max, 0.1))
    x = ProbabilityFlow(sigma_max, 0.1, exact_start=exact).start(rows, normal(10_000))
    assert_uniform(rows.cdf(x, sigma_max))


@torch.no_grad()
def test_ode_solves_the_gaussian_flow(gaussian_model: Make) -> None:
    model = gaussian_model((0.5,), (1.0,), levels=(4.0, 0.5))
    z = normal(50, 1)
    sampler = ProbabilityFlow(4.0, 0.5, steps=200, exact_start=False)
    x = sampler(first_dimension(model, 50), z)
    assert torch.allclose(x, 0.5 + math.hypot(1.0, 0.5) * z[:, 0], rtol=0, atol=1e-4)


@torch.no_grad()
def test_ode_converges_at_second_order(gaussian_model: Make) -> None:
    model = gaussian_model((0.5,), (1.0,), levels=(4.0, 0.5))
    z = normal(50, 1)
    exact = 0.5 + math.hypot(1.0, 0.5) * z[:, 0]
    rows = first_dimension(model, 50)
    samplers = [ProbabilityFlow(4.0, 0.5, steps=n, exact_start=False) for n in (20, 40, 80)]
    errors = [float((sampler(rows, z) - exact).abs().max()) for sampler in samplers]
    assert all(3.5 < a / b < 4.5 for a, b in itertools.pairwise(errors))


def test_ode_levels_fall_from_end_to_end() -> None:
    sigmas = ProbabilityFlow(3.0, 0.1, steps=7).sigmas()
    assert (sigmas[0], sigmas[-1], len(sigmas)) == (3.0, 0.1, 8)
    assert sorted(sigmas, reverse=True) == sigmas


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exact", [True, False])
@torch.no_grad()
def test_ode_draws_numbers_whatever_the_weights(random_model: Make, seed: int, exact: bool) -> None:
    model = random_model(shape=(1,), scale=6.0, seed=seed)
    sampler = ProbabilityFlow(3.0, 0.1, exact_start=exact)
    assert sampler(first_dimension(model, 40), normal(40, 1)).isfinite().all()


# langevin


def test_one_langevin_step_is_equation_21(random_model: Make) -> None:
    model = random_model(annealing="none", levels=(0.2,), mean=(0.5,), sd=(2.0,))
    rows, z = first_dimension(model, 10), normal(10, 2)
    start = 0.5 + math.hypot(2.0, 0.2) * z[:, 0]
    with torch.no_grad():
        expected = start + 0.005 * rows.at(0.2)(start) + 0.1 * z[:, 1]
        assert torch.allclose(
            Langevin((0.2,), steps=1, step_size=0.01)(rows, z), expected, rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("annealing", ["staged", "joint"])
@torch.no_grad()
def test_annealed_langevin_is_equation_22(random_model: Make, annealing: str) -> None:
    levels, steps, eps = (1.0, 0.4, 0.2), 3, 0.01
    model = random_model(annealing=annealing, levels=levels)
    rows, z = first_dimension(model, 10), normal(10, 1 + 3 * steps)
    x = math.hypot(1.0, 1.0) * z[:, 0]
    noise = iter(z[:, 1:].T)
    for i, sigma in enumerate(levels):
        step = eps * sigma**2 / levels[-1] ** 2
        for _ in range(steps):
            x = x + step / 2 * rows.at(sigma, i)(x) + step**0.5 * next(noise)
    found = Langevin(levels, steps, eps)(rows, z)
    assert torch.allclose(found, x, rtol=1e-10, atol=1e-10)


def test_the_default_langevin_step_is_a_fifth_of_each_levels_variance(random_model: Make) -> None:
    rows, z = first_dimension(random_model(levels=(1.0, 0.5)), 10), normal(10, 9)
    explicit = Langevin((1.0, 0.5), 4, step_size=0.2 * 0.5**2)
    assert torch.equal(Langevin((1.0, 0.5), 4)(rows, z.clone()), explicit(rows, z.clone()))


def test_without_noise_the_langevin_step_is_in_units_of_the_datas_variance(
    random_model: Make,
) -> None:
    z = normal(10, 2)
    moves = []
    for sd in (1.0, 3.0):
        model = random_model(annealing="none", levels=(0.0,), sd=(sd,))
        x = Langevin((0.0,), steps=1, step_size=0.01)(first_dimension(model, 10), z)
        moves.append(x / sd)
    assert torch.allclose(*moves, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_langevin_follows_the_density_of_a_staged_mixture(
    mixture: Make, assert_uniform: Check
) -> None:
    levels = (1.5, 1.0, 0.7, 0.5, 0.4)
    exact = mixture(shape=(1,), annealing="staged", levels=levels, offset=0.8)
    sampler = Langevin(levels, steps=300, step_size=0.04 * levels[-1] ** 2)
    n = 10_000
    x = sampler(first_dimension(exact.model, n), normal(n, sampler.draws))
    assert_uniform(exact.cdf(x[:, None])[:, 0])


@torch.no_grad()
def test_langevin_follows_the_density_of_a_single_level(
    mixture: Make, assert_uniform: Check
) -> None:
    exact = mixture(shape=(1,), annealing="none", levels=(0.8,), offset=0.7)
    sampler = Langevin((0.8,), steps=500, step_size=0.02)
    n = 10_000
    x = sampler(first_dimension(exact.model, n), normal(n, sampler.draws))
    assert_uniform(exact.cdf(x[:, None])[:, 0])


@pytest.mark.parametrize(
    ("sampler", "draws"),
    [(Grid(0.1), 1), (ProbabilityFlow(3.0, 0.1), 1), (Langevin((1.0, 0.1), 20), 41)],
    ids=["grid", "ode", "langevin"],
)
def test_samplers_say_how_many_random_numbers_they_take(sampler: Any, draws: int) -> None:
    assert sampler.draws == draws
