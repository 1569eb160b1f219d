"""Normalised densities from scores: right for known ones, and of mass 1 for any weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.models.quadrature import grid_density, log_density

Make = Callable[..., Any]

KINDS: list[dict[str, Any]] = [
    {"annealing": "joint", "levels": (3.0, 0.5, 0.05)},
    {"annealing": "staged", "levels": (1.0, 0.2, 0.05)},
    {"annealing": "none", "levels": (0.05,)},
    {"annealing": "none", "levels": (0.0,)},
    {"annealing": "joint", "levels": (3.0, 0.5, 0.05), "frames": "linear"},
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k['annealing']} {k['levels'][-1]}")


def repeated(rows: Conditionals, i: int, n: int) -> Conditionals:
    """n times one conditional of many."""
    return rows.rows(torch.full((n,), i))


@torch.no_grad()
def masses(model: Any, sigma: float, level: int) -> list[float]:
    """The integral of exp(log_density) of each conditional given one example.

    By trapezoids over an interval found by a dense integral of the score itself, so that neither
    the library's windows nor its grids have a part in it.
    """
    x = torch.linspace(-1, 1, 3, dtype=torch.float64)[None]
    rows = ConditionalModel(model).of_examples(x)
    result = []
    for i in range(len(rows)):
        one = repeated(rows, i, 1).at(sigma, level)
        half = float(one.reach + 12 * one.tail)
        grid = float(one.mean) + torch.linspace(-half, half, 20_001, dtype=torch.float64)
        log_p = torch.cumulative_trapezoid(one(grid[None])[0], grid)
        live = grid[1:][log_p > log_p.max() - 30]
        nodes = torch.linspace(float(live[0]), float(live[-1]), 2001, dtype=torch.float64)
        density = log_density(repeated(rows, i, len(nodes)).at(sigma, level), nodes).exp()
        result.append(float(torch.trapezoid(density, nodes)))
    return result


# Any weights


@kinds
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("seed", range(2))
def test_conditionals_of_random_weights_integrate_to_one_at_every_level(
    random_model: Make, kind: dict[str, Any], scale: float, seed: int
) -> None:
    model = random_model(scale=scale, seed=seed, **kind)
    for level, sigma in enumerate(model.levels):
        assert masses(model, sigma, level) == pytest.approx([1.0] * 3, abs=1e-3)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scale=st.floats(-2, 1.1).map(math.exp),
    sigma=st.floats(-3, 2).map(math.exp),
    sd=st.floats(-2, 1).map(math.exp),
    seed=st.integers(0, 1000),
)
def test_conditionals_integrate_to_one_whatever_the_scales(
    random_model: Make, scale: float, sigma: float, sd: float, seed: int
) -> None:
    model = random_model(
        scale=scale, seed=seed, levels=(2 * sigma, sigma), mean=(0.5,), sd=(sd,), shape=(3,)
    )
    assert masses(model, sigma, -1) == pytest.approx([1.0] * 3, abs=1e-3)


@kinds
@torch.no_grad()
def test_the_distribution_function_rises_from_0_to_1(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(scale=3.0, **kind)
    rows = ConditionalModel(model).of_examples(torch.zeros(2, 3).double())
    cdf = grid_density(rows.at(model.sigma_min)).cdf
    assert (cdf[:, 0] == 0).all()
    assert (cdf.diff() >= 0).all()
    assert torch.allclose(cdf[:, -1], torch.ones(6).double(), rtol=0, atol=1e-12)


@kinds
@torch.no_grad()
def test_the_density_falls_off_at_both_ends_of_the_grid(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(scale=3.0, **kind)
    rows = ConditionalModel(model).of_examples(torch.zeros(2, 3).double())
    log_p = grid_density(rows.at(model.sigma_min)).log_density
    ends = log_p[:, [0, -1]].max(1).values
    assert (ends < log_p.max(1).values - 20).all()


@kinds
@torch.no_grad()
def test_grid_points_rise_in_even_steps(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(**kind)
    rows = ConditionalModel(model).of_examples(torch.zeros(2, 3).double())
    steps = grid_density(rows.at(model.sigma_min), points=50).points.diff()
    assert (steps > 0).all()
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), rtol=1e-6)


# Known densities


@pytest.mark.parametrize("sigma", [0.05, 0.3, 3.0])
def test_the_density_of_a_mixture_is_the_known_one(exact_rows: Make, sigma: float) -> None:
    rows = exact_rows(500)
    x = rows.draw(sigma)
    error = log_density(rows.at(sigma), x, points=1024) - rows.log_density(x, sigma)
    assert error.abs().max() < 1e-3


def test_the_gridded_distribution_function_is_the_known_one(exact_rows: Make) -> None:
    rows = exact_rows(1)
    grid = grid_density(rows.at(0.1))
    assert (grid.cdf - rows.cdf(grid.points, 0.1)).abs().max() < 1e-3


def test_the_density_is_known_between_grid_points_too(exact_rows: Make) -> None:
    rows = exact_rows(1)
    points = grid_density(rows.at(0.1), points=1024).points[0]
    between = points[1:-1] + 0.37 * (points[1] - points[0])
    rows = exact_rows(len(between))
    error = log_density(rows.at(0.1), between, points=1024) - rows.log_density(between, 0.1)
    assert error.abs().max() < 1e-3


@pytest.mark.parametrize("distance", [-300.0, -30.0, 30.0, 300.0])
@torch.no_grad()
def test_values_far_outside_the_mass_have_their_density(
    gaussian_model: Make, distance: float
) -> None:
    model = gaussian_model((1.0,), (0.5,), levels=(3.0, 0.5))
    scale = math.hypot(0.5, 0.5)
    x = torch.tensor([[1.0 + distance * scale]], dtype=torch.float64)
    score = ConditionalModel(model).of_examples(x).at(0.5)
    exact = -(distance**2) / 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    assert log_density(score, x[0]).item() == pytest.approx(exact, rel=1e-4, abs=1e-3)


def test_more_points_bring_the_density_nearer(exact_rows: Make) -> None:
    rows = exact_rows(300)
    x = rows.draw(0.1)
    errors = [
        float((log_density(rows.at(0.1), x, points=n) - rows.log_density(x, 0.1)).abs().max())
        for n in (64, 256, 1024)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
