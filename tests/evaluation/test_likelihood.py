"""Log-likelihoods by quadrature and by the probability flow, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation import likelihood
from arcsm_cli.evaluation.likelihood import (
    flow_log_likelihood,
    log_likelihood,
    quadrature_log_likelihood,
)

Make = Callable[..., Any]
Estimate = Callable[..., Tensor]

MEAN, SD = (0.5, -1.0, 2.0), (0.25, 1.0, 4.0)
methods = pytest.mark.parametrize(
    "estimate", [quadrature_log_likelihood, flow_log_likelihood], ids=["quadrature", "flow"]
)


def examples(batch: int, dimensions: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(batch, dimensions, generator=generator, dtype=torch.float64)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """log-density of each scalar of N(MEAN, SD^2 + sigma^2)."""
    total = x.new_tensor(SD).square() + sigma**2
    return -0.5 * ((x - x.new_tensor(MEAN)).square() / total + (2 * math.pi * total).log())


@pytest.fixture
def exact(exact_rows: Make, monkeypatch: pytest.MonkeyPatch, random_model: Make) -> Any:
    """A joint model whose conditionals are replaced by one with a known density."""
    levels = (3.0, 0.1)

    class Exact:
        def __init__(self, model: Any) -> None:
            pass

        def of_examples(self, batch: Batch) -> Any:
            return exact_rows(batch.x.numel(), levels)

    monkeypatch.setattr(likelihood, "ConditionalModel", Exact)
    return random_model(levels=levels)


@methods
def test_a_gaussian_has_its_density(gaussian_model: Make, estimate: Estimate) -> None:
    model = gaussian_model(MEAN, SD, levels=(12.0, 0.1))
    x = torch.tensor(MEAN).double() + examples(100, 3) * torch.tensor(SD)
    assert (estimate(model, x) - gaussian(x, 0.1)).abs().max() < 1e-3


@methods
def test_a_mixture_has_its_density(exact: Any, exact_rows: Make, estimate: Estimate) -> None:
    rows = exact_rows(3000)
    x = rows.draw(0.1).view(1000, 3)
    error = estimate(exact, x) - rows.log_density(x, 0.1)
    assert error.mean().abs() < 1e-3
    assert error.abs().max() < 2e-2


@pytest.mark.parametrize(
    ("estimate", "effort"),
    [(quadrature_log_likelihood, {"points": 1024}), (flow_log_likelihood, {"steps": 60})],
    ids=["quadrature", "flow"],
)
def test_with_more_effort_each_value_of_a_mixture_has_its_density(
    exact: Any, exact_rows: Make, estimate: Estimate, effort: dict[str, int]
) -> None:
    rows = exact_rows(300)
    x = rows.draw(0.1).view(100, 3)
    assert (estimate(exact, x, **effort) - rows.log_density(x, 0.1)).abs().max() < 1e-3


def test_flow_and_quadrature_agree_on_a_mixture(exact: Any, exact_rows: Make) -> None:
    x = exact_rows(300).draw(0.1).view(100, 3)
    difference = flow_log_likelihood(exact, x) - quadrature_log_likelihood(exact, x)
    assert difference.abs().max() < 2e-2
    assert difference.mean().abs() < 1e-3


def test_more_steps_bring_the_flow_nearer(exact: Any, exact_rows: Make) -> None:
    rows = exact_rows(300)
    x = rows.draw(0.1).view(100, 3)
    errors = [
        float((flow_log_likelihood(exact, x, steps=n) - rows.log_density(x, 0.1)).abs().max())
        for n in (6, 12, 24)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_of_a_staged_model_has_its_density(mixture: Make, level: int) -> None:
    known = mixture(annealing="staged", levels=(1.0, 0.6, 0.4))
    x = examples(60, 2)
    found = quadrature_log_likelihood(known.model, x, level=level, points=1024)
    assert (found - known.log_density(x, level)).abs().max() < 1e-3


def test_a_single_level_has_its_density(mixture: Make) -> None:
    known = mixture(annealing="none", levels=(0.4,))
    x = examples(60, 2)
    found = quadrature_log_likelihood(known.model, x, points=1024)
    assert (found - known.log_density(x)).abs().max() < 1e-3


def test_each_example_is_judged_by_its_own_contexts(mixture: Make) -> None:
    known = mixture(annealing="none", levels=(0.4,))
    x = examples(60, 2, scale=3.0)
    x[:, 1] = 0.7
    found = quadrature_log_likelihood(known.model, x)[:, 1]
    assert (found.diff().abs() > 1e-3).any()


@methods
@pytest.mark.parametrize("size", [1 << 10, 1 << 12])
def test_the_size_of_blocks_does_not_matter(
    random_model: Make, estimate: Estimate, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = random_model(), examples(20, 3)
    whole = estimate(model, x)
    monkeypatch.setattr(likelihood, "_EVALUATIONS", size)
    assert torch.allclose(estimate(model, x), whole, rtol=0, atol=1e-9)


@methods
def test_an_example_is_judged_alike_alone_and_in_a_batch(
    random_model: Make, estimate: Estimate
) -> None:
    model, x = random_model(mean=MEAN, sd=SD), examples(8, 3)
    alone = torch.cat([estimate(model, row[None]) for row in x])
    assert torch.allclose(estimate(model, x), alone, rtol=0, atol=1e-9)


@methods
def test_no_value_makes_the_likelihood_anything_but_a_number(
    gaussian_model: Make, estimate: Estimate
) -> None:
    model = gaussian_model(MEAN, SD, levels=(12.0, 0.1)).float()
    x = torch.tensor([[0.0, 0.0, 0.0], [1e3, -1e3, 1e3], [-1e5, 1e5, 1e5]])
    assert estimate(model, x).isfinite().all()


def test_flow_is_the_default_of_joint_models(random_model: Make) -> None:
    model, x = random_model(), examples(4, 3)
    assert torch.equal(log_likelihood(model, x), flow_log_likelihood(model, x))


def test_a_joint_model_can_be_judged_by_quadrature(random_model: Make) -> None:
    model, x = random_model(), examples(4, 3)
    found = log_likelihood(model, x, "quadrature")
    assert torch.equal(found, quadrature_log_likelihood(model, x))


@pytest.mark.parametrize(
    "kind", [{"annealing": "staged", "levels": (1.0, 0.1)}, {"annealing": "none", "levels": (0.1,)}]
)
def test_other_models_are_judged_by_quadrature(random_model: Make, kind: dict[str, Any]) -> None:
    model, x = random_model(**kind), examples(4, 3)
    assert torch.equal(log_likelihood(model, x), quadrature_log_likelihood(model, x))


@pytest.mark.parametrize(
    "kind", [{"annealing": "staged", "levels": (1.0, 0.1)}, {"annealing": "none", "levels": (0.1,)}]
)
def test_flow_is_refused_where_levels_are_not_joined(
    random_model: Make, kind: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="use quadrature"):
        log_likelihood(random_model(**kind), examples(4, 3), "flow")
