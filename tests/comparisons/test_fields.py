"""Score fields and objectives, against autograd, closed forms and one another, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arcsm_cli.comparisons.convergence import conditional_score, joint_score
from arcsm_cli.comparisons.fields import (
    ConditionalField,
    EnergyField,
    LikelihoodField,
    conditional_config,
)
from arcsm_cli.comparisons.objectives import Objective, objectives
from arcsm_cli.data.densities import log_density
from arcsm_cli.models.config import ModelConfig

D, B = 5, 7


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def points(rows: int = B) -> Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def likelihood_field() -> LikelihoodField:
    config = ModelConfig(
        shape=(D,),
        levels=(0.1,),
        annealing="none",
        likelihood="gaussian",
        context_width=2,
        hidden=(16, 16),
        mean=(0.3,),
        sd=(1.7,),
    )
    return LikelihoodField(config).double()


FIELDS: dict[str, Callable[[], torch.nn.Module]] = {
    "energy": lambda: EnergyField(D, 16).double(),
    "conditional": lambda: ConditionalField(conditional_config(D, hidden=16)).double(),
    "likelihood": likelihood_field,
}


def jacobian(field: torch.nn.Module, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda row: field(row[None])[0], x)


def test_the_energys_score_is_minus_its_gradient() -> None:
    field = EnergyField(D, 16).double()
    x = points(1)
    by_differences = [
        (field.energy(x - h) - field.energy(x + h)) / 2e-5 for h in 1e-5 * torch.eye(D).double()
    ]
    torch.testing.assert_close(field(x.clone())[0].detach(), torch.cat(by_differences).detach())


@pytest.mark.parametrize("name", ["conditional", "likelihood"])
def test_the_derivative_is_the_diagonal_of_the_conditional_scores_jacobian(name: str) -> None:
    field = FIELDS[name]()
    x = points(2)
    s, ds = field.with_derivative(x)  # type: ignore[operator]
    for row, values, slopes in zip(x, s, ds, strict=True):

        def conditional(y: Tensor) -> Tensor:
            found: Tensor = field.with_derivative(y[None])[0][0]  # type: ignore[operator]
            return found

        torch.testing.assert_close(conditional(row), values)
        step = 1e-5 * torch.eye(D, dtype=torch.float64)
        differences = [
            (conditional(row + h) - conditional(row - h))[i] / 2e-5 for i, h in enumerate(step)
        ]
        torch.testing.assert_close(torch.stack(differences), slopes, rtol=1e-6, atol=1e-8)


def test_both_ways_to_the_conditional_scores_agree() -> None:
    field = FIELDS["conditional"]()
    x = points()
    torch.testing.assert_close(field(x), field.with_derivative(x)[0])  # type: ignore[operator]


def test_gaussian_conditional_scores_have_their_closed_form() -> None:
    field = likelihood_field()
    x = points()
    mean, log_sd = field.model.contexts(x).unbind(-1)
    scale = 1.7 * log_sd.exp()
    s, ds = field.with_derivative(x)
    torch.testing.assert_close(s, -(x - 0.3 - 1.7 * mean) / scale.square())
    torch.testing.assert_close(ds, -scale.pow(-2))


def test_the_likelihoods_score_is_the_gradient_of_the_whole_log_likelihood() -> None:
    field = likelihood_field()
    x = points()
    torch.testing.assert_close(
        field(x.clone()),
        torch.autograd.functional.jacobian(lambda y: field.model.log_prob(y).sum(), x),
    )


def test_csm_is_sm_of_conditional_scores() -> None:
    field, x, draws = FIELDS["conditional"](), points(), torch.Generator()
    torch.testing.assert_close(Objective("csm")(field, x, draws), Objective("sm")(field, x, draws))


@pytest.mark.parametrize("name", FIELDS)
def test_sm_is_half_the_square_plus_the_trace(name: str) -> None:
    field, x = FIELDS[name](), points(2)
    found = Objective("sm")(field, x, torch.Generator())
    for row, loss in zip(x, found, strict=True):
        expected = 0.5 * field(row[None].clone()).square().sum() + jacobian(field, row).trace()
        torch.testing.assert_close(loss, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssm", "ssm-vr"])
@pytest.mark.parametrize("kind", FIELDS)
def test_sliced_objectives_have_the_expectation_of_sm(name: str, kind: str) -> None:
    field, x, draws = FIELDS[kind](), points(2), torch.Generator().manual_seed(0)
    many = torch.stack([Objective(name)(field, x, draws).detach() for _ in range(1500)])
    expected = Objective("sm")(field, x, draws).detach()
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - expected).abs() < 4.5 * error + 1e-9).all()


def test_projections_are_averaged() -> None:
    field, x = FIELDS["energy"](), points()
    draws = torch.Generator().manual_seed(0)
    one = [Objective("ssm")(field, x, draws) for _ in range(3)]
    three = Objective("ssm", projections=3)(field, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(three, torch.stack(one).mean(0))


def test_dsm_regresses_on_the_noise() -> None:
    field, x = FIELDS["likelihood"](), points()
    found = Objective("dsm", sigma=0.5)(field, x, torch.Generator().manual_seed(3))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    noisy = x + 0.5 * noise
    expected = 0.5 * (field(noisy) - (x - noisy) / 0.25).square().sum(1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["csm", "sm", "ssm", "ssm-vr", "dsm", "mle"])
def test_every_objective_reaches_the_weights(name: str) -> None:
    field = likelihood_field()
    loss = Objective(name, sigma=0.1)(field, points(), torch.Generator().manual_seed(0)).sum()
    gradients = torch.autograd.grad(loss, list(field.parameters()))
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(bool((g != 0).any()) for g in gradients)


def test_an_objective_leaves_the_batch_as_it_was() -> None:
    x = points()
    for name in ("csm", "sm", "ssm", "ssm-vr", "dsm", "mle"):
        Objective(name, sigma=0.1)(likelihood_field(), x, torch.Generator())
        assert not x.requires_grad


def test_the_truths_of_the_gaussian_are_gradients_of_its_density() -> None:
    x = points().requires_grad_()
    (joint,) = torch.autograd.grad(log_density(f"gaussian:{D}", x, 0.0).sum(), x)
    torch.testing.assert_close(joint_score(x.detach()), joint)
    # The last variable has no successor: its conditional score is the joint's.
    torch.testing.assert_close(conditional_score(x.detach())[:, -1], joint[:, -1])
    (first,) = torch.autograd.grad(log_density("gaussian:1", x[:, :1], 0.0).sum(), x)
    torch.testing.assert_close(conditional_score(x.detach())[:, 0], first[:, 0])


def test_objectives_are_listed_with_each_of_their_constants() -> None:
    found = objectives(("csm", "ssm", "dsm"), (0.01, 1.0), (1, 10))
    assert [o.label for o in found] == ["csm", "ssm 1", "ssm 10", "dsm 0.01", "dsm 1"]
