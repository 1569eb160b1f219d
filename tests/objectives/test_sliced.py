"""Exact and sliced score matching, with all projections enumerated: expectations without error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.once import differentiable_twice
from arcsm_cli.models.vae_triangular import Frame
from arcsm_cli.objectives.sliced import sm, ssm, ssm_vr
from arcsm_cli.randomness import rademacher

Make = Callable[..., Any]
Field = Callable[[Tensor], Tensor]
BATCH, SIZE = 4, 3
SCALE = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field(x: Tensor) -> Tensor:
    """A smooth field whose components read all coordinates."""
    first, second = random(SIZE, 5, seed=1), random(5, SIZE, seed=2)
    return torch.tanh(x @ first) @ second - x


def points() -> Tensor:
    return random(BATCH, SIZE).requires_grad_()


def signs() -> Tensor:
    """All projections of signs, (2^D, D)."""
    rows = list(itertools.product([-1.0, 1.0], repeat=SIZE))
    return torch.tensor(rows, dtype=torch.float64)


def over_signs(loss: Callable[[Tensor, Tensor, Tensor], Tensor], scale: Tensor) -> Tensor:
    """A sliced objective under each of the projections, (2^D, B)."""
    x = points()
    s = field(x)
    return torch.stack([loss(s, x, (v * scale).expand_as(x)).detach() for v in signs()])


def weighted_sm(x: Tensor, weight: Tensor) -> Tensor:
    """1/2 s_d^2 + ds_d/dx_d, weighted and summed, from whole Jacobians; (B,)."""
    jacobian: Any = torch.autograd.functional.jacobian
    slopes = torch.stack([jacobian(field, row).diagonal() for row in x.detach()])
    s = field(x.detach())
    return (weight * (0.5 * s.square() + slopes)).sum(1)


def test_the_exact_objective_is_that_of_whole_jacobians() -> None:
    x = points()
    assert torch.allclose(sm(field(x), x), weighted_sm(x, torch.ones(SIZE).double()), rtol=1e-12)


@pytest.mark.parametrize("scale", [torch.ones(SIZE).double(), SCALE], ids=["unit", "scaled"])
def test_the_sliced_objective_is_the_weighted_exact_one_in_expectation(scale: Tensor) -> None:
    expected = weighted_sm(points(), scale.square())
    assert torch.allclose(over_signs(ssm, scale).mean(0), expected, rtol=1e-10)


@pytest.mark.parametrize("scale", [torch.ones(SIZE).double(), SCALE], ids=["unit", "scaled"])
def test_the_objective_of_reduced_variance_is_the_weighted_exact_one_in_expectation(
    scale: Tensor,
) -> None:
    found = over_signs(lambda s, x, v: ssm_vr(s, x, v, scale.square()), scale).mean(0)
    assert torch.allclose(found, weighted_sm(points(), scale.square()), rtol=1e-10)


def test_the_objective_of_reduced_variance_weighs_nothing_by_default() -> None:
    x = points()
    s, v = field(x), signs()[1].expand(BATCH, SIZE)
    assert torch.equal(ssm_vr(s, x, v), ssm_vr(s, x, v, torch.ones(SIZE).double()))


def test_the_exact_second_term_reduces_the_variance_over_projections() -> None:
    # Scores of a weakly correlated Gaussian: v'(ds/dx)v hardly depends on v, (v's)^2 does.
    precision = torch.full((SIZE, SIZE), 0.2).double() + torch.eye(SIZE).double()
    x = points()
    s = -x @ precision
    every = [v.expand_as(x) for v in signs()]
    sliced, reduced = (
        torch.stack([loss(s, x, v).detach() for v in every]).var(0).mean() for loss in (ssm, ssm_vr)
    )
    assert reduced < 0.5 * sliced


@pytest.mark.parametrize("loss", [ssm, ssm_vr])
def test_in_one_dimension_nothing_is_left_to_chance(loss: Make) -> None:
    x = random(BATCH, 1).requires_grad_()
    s = torch.tanh(2 * x) - x
    exact = sm(s, x)
    for sign in (-1.0, 1.0):
        assert torch.allclose(loss(s, x, torch.full_like(x, sign)), exact, rtol=1e-12)


@pytest.mark.parametrize("loss", [sm, ssm, ssm_vr])
def test_an_objective_can_be_differentiated_for_weights(loss: Make) -> None:
    weight, x = random(SIZE, SIZE, seed=3).requires_grad_(), points()
    projections = () if loss is sm else (rademacher(x, torch.Generator().manual_seed(0)),)

    def value(weight: Tensor) -> Tensor:
        total: Tensor = loss(torch.tanh(x @ weight) - x, x, *projections).sum()
        return total

    (found,) = torch.autograd.grad(value(weight), weight)
    step = torch.zeros_like(found)
    step[1, 2] = 1e-6
    slope = (value(weight.detach() + step) - value(weight.detach() - step)) / 2e-6
    assert float(found[1, 2]) == pytest.approx(float(slope.detach()), rel=1e-6)


def test_of_an_autoregressive_field_the_exact_objective_is_composite(random_vae: Make) -> None:
    estimator = random_vae(latent_dim=SIZE).scores
    x, features = points(), random(BATCH, 8, seed=4)
    frame = Frame(torch.zeros(BATCH, SIZE).double(), torch.ones(BATCH, SIZE).double())
    s, ds = estimator.with_derivative(x.detach(), features, frame)
    with differentiable_twice():
        found = sm(estimator(x, features, frame), x)
    assert torch.allclose(found, (0.5 * s.square() + ds).sum(1), rtol=1e-10)


def normal_rule() -> tuple[Tensor, Tensor]:
    """Nodes (N, 2) and weights (N,) of E f(X), X standard normal in the plane: trapezoids."""
    nodes = torch.linspace(-8.5, 8.5, 121, dtype=torch.float64)
    weights = torch.exp(-nodes.square() / 2)
    weights = weights / weights.sum()
    grid = torch.cartesian_prod(nodes, nodes)
    return grid, torch.outer(weights, weights).flatten()


@pytest.mark.parametrize("loss", ["sm", "ssm", "ssm_vr"])
def test_the_score_of_a_gaussian_is_stationary(loss: str) -> None:
    mixing = torch.tensor([[1.2, 0.0], [-0.7, 0.5]], dtype=torch.float64)
    u, weight = normal_rule()
    x = (u @ mixing.T).requires_grad_()
    precision = torch.linalg.inv(mixing @ mixing.T)
    # Around the true score in every direction of shift, slope and curvature.
    shift, slope, bend = (torch.zeros(2, 2).double().requires_grad_() for _ in range(3))
    s = -x @ precision + shift[0] + x @ slope + torch.tanh(x) @ bend
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)  # v and -v: the same
    values: Any = {
        "sm": lambda: sm(s, x),
        "ssm": lambda: sum(ssm(s, x, v.expand_as(x)) for v in corners) / 2,
        "ssm_vr": lambda: sum(ssm_vr(s, x, v.expand_as(x)) for v in corners) / 2,
    }[loss]()
    gradients = torch.autograd.grad((weight * values).sum(), [shift, slope, bend])
    assert all(g.abs().max() < 1e-9 for g in gradients)


def test_another_field_is_not_stationary() -> None:
    u, weight = normal_rule()
    x = u.clone().requires_grad_()
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((weight * sm(-slope * x, x)).sum(), slope)
    # Per dimension 1/2 slope^2 - slope, at its least where slope is 1.
    assert float(gradient) == pytest.approx(2 * (0.5 - 1))


def test_projections_are_signs_of_unit_second_moment() -> None:
    v = rademacher(torch.zeros(20_000, 2, dtype=torch.float64), torch.Generator().manual_seed(0))
    assert v.dtype == torch.float64
    assert set(v.flatten().tolist()) == {-1.0, 1.0}
    # Means of 20,000 signs: deviation 0.007.
    assert v.mean(0).abs().max() < 0.035
    assert abs(float(v.prod(1).mean())) < 0.035


def test_projections_are_a_function_of_the_generator() -> None:
    first, second = (
        rademacher(torch.zeros(5, 4), torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)
