"""Normalised densities from scores: right for known ones, and of mass 1 for any weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.models.quadrature import grid_density, log_density
from arcsm_cli.sampling.grid import invert_cdf

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
        nodes = torch.linspace(float(live[0]), float(live[-1]), 801, dtype=torch.float64)
        density = log_density(repeated(rows, i, len(nodes)).at(sigma, level), nodes).exp()
        result.append(float(torch.trapezoid(density, nodes)))
    return result


# Any weights


@kinds
def test_conditionals_of_random_weights_integrate_to_one_at_every_level(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(scale=3.0, **kind)
    for level, sigma in enumerate(model.levels):
        assert masses(model, sigma, level) == pytest.approx([1.0] * 3, abs=1e-3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
def test_grid_points_rise_in_even_steps_where_those_resolve_the_density(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(**kind)
    rows = ConditionalModel(model).of_examples(torch.zeros(2, 3).double())
    steps = grid_density(rows.at(model.sigma_min), points=256).points.diff()
    assert (steps >= 0).all()
    assert torch.allclose(steps[:, :255], steps[:, :1].expand(-1, 255), rtol=1e-6)
    assert (steps[:, 255:] == 0).all()


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
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


# Modes far apart, narrow ones beside broad ones


class Mixture:
    """What `LevelScore` offers, of n times one mixture of normals; and its closed forms."""

    def __init__(self, parts: list[tuple[float, float, float]], sigma: float, n: int = 1) -> None:
        self.parts, self.sigma = parts, sigma
        weights, centres, sds = torch.tensor(parts, dtype=torch.float64).T
        self.weights, self.centres, self.scales = weights, centres, torch.hypot(
            sds, torch.tensor(sigma)
        )  # fmt: skip
        self.mean = float((weights * centres).sum())
        spread = (weights * (centres**2 + self.scales**2)).sum() - self.mean**2
        self.tail = spread.sqrt().expand(n)
        self.reach = (centres - self.mean).abs().max().expand(n)

    def rows(self, rows: Tensor) -> Mixture:
        return Mixture(self.parts, self.sigma, len(rows))

    def _terms(self, x: Tensor) -> Tensor:
        z = (x[..., None] - self.centres) / self.scales
        return (self.weights / self.scales).log() - 0.5 * z**2

    def __call__(self, x: Tensor) -> Tensor:
        pulls = (self.centres - x[..., None]) / self.scales**2
        return (self._terms(x).softmax(-1) * pulls).sum(-1)

    def log_density(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self._terms(x), -1) - 0.5 * math.log(2 * math.pi)

    def cdf(self, x: Tensor) -> Tensor:
        z = (x[..., None] - self.centres) / self.scales
        return (self.weights * torch.special.ndtr(z)).sum(-1)

    def draw(self, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        return self.centres[which] + self.scales[which] * z


# (weight, centre, deviation before noise) of each part; the noise.
MIXTURES: dict[str, tuple[list[tuple[float, float, float]], float]] = {
    "200 deviations apart": ([(0.3, -2, 0.0), (0.7, 2, 0.0)], 0.02),
    "800 deviations apart": ([(0.3, -2, 0.0), (0.7, 2, 0.0)], 0.005),
    "one of a fiftieth": ([(0.02, -1, 0.0), (0.98, 1, 0.0)], 0.01),
    "a spike in a broad one": ([(0.5, 0, 1.0), (0.5, 1.3, 0.0)], 0.01),
    "a spike beside a broad one": ([(0.9, 0, 1.0), (0.1, 3.1, 0.0)], 0.01),
    "three widths": ([(0.3, -4, 0.0), (0.3, 0, 1.0), (0.4, 5, 0.1)], 0.01),
}
mixtures = pytest.mark.parametrize(("parts", "sigma"), MIXTURES.values(), ids=MIXTURES)


@mixtures
def test_modes_far_apart_keep_their_mass(
    parts: list[tuple[float, float, float]], sigma: float
) -> None:
    mixture: Any = Mixture(parts, sigma)
    grid = grid_density(mixture)
    assert (grid.cdf - mixture.cdf(grid.points)).abs().max() < 1e-3
    z = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    drawn = invert_cdf(grid, z[None])[0]
    assert (mixture.cdf(drawn) - torch.special.ndtr(z)).abs().max() < 2e-3


@mixtures
def test_modes_far_apart_have_their_density(
    parts: list[tuple[float, float, float]], sigma: float
) -> None:
    many: Any = Mixture(parts, sigma, 200)
    x = many.draw(200)
    assert (log_density(many, x) - many.log_density(x)).abs().max() < 1e-2
    assert (log_density(many, x, points=1024) - many.log_density(x)).abs().max() < 2e-3


def test_rows_that_are_easy_are_not_changed_by_others_that_are_hard() -> None:
    class Both(Mixture):
        """The first row is one normal, the second two far apart."""

        def __init__(self) -> None:
            super().__init__([(0.5, -2, 0.0), (0.5, 2, 0.0)], 0.02, 2)
            self.easy: Any = Mixture([(1.0, 0, 2.0)], 0.02)

        def rows(self, rows: Tensor) -> Any:
            assert rows.tolist() == [1]
            return Mixture(self.parts, self.sigma)

        def __call__(self, x: Tensor) -> Tensor:
            return torch.cat([self.easy(x[:1]), super().__call__(x[1:])])

    both: Any = Both()
    x = torch.tensor([0.7, 2.01], dtype=torch.float64)
    found = log_density(both, x)
    assert found[0].item() == pytest.approx(both.easy.log_density(x)[0].item(), abs=1e-6)
    assert found[1].item() == pytest.approx(both.log_density(x)[1].item(), abs=1e-3)
