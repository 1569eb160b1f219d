"""The conditionals that samplers and likelihoods work on are the model's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.conditional import ConditionalModel, Conditionals

Make = Callable[..., ARCSM]

SCALES = {"mean": (0.5, -1.0, 2.0), "sd": (0.25, 1.0, 4.0)}
CASES: list[dict[str, Any]] = [
    {"annealing": "joint", "levels": (3.0, 0.5, 0.1)},
    {"annealing": "staged", "levels": (1.0, 0.4, 0.1)},
    {"annealing": "none", "levels": (0.1,), "score_hidden": (5,)},
    {"annealing": "none", "levels": (0.0,), "score_hidden": (5, 4, 3)},
    {"annealing": "joint", "levels": (3.0, 0.5, 0.1), "score_input": "noise"},
    {"annealing": "joint", "levels": (3.0, 0.5, 0.1), "frames": "linear", "score_input": "noise"},
    {"annealing": "staged", "levels": (1.0, 0.4, 0.1), "frames": "contexts"},
]
cases = pytest.mark.parametrize(
    "case", CASES, ids=lambda k: " ".join(str(v) for v in k.values() if not isinstance(v, tuple))
)


@pytest.fixture
def x() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


@torch.no_grad()
def truth(model: ARCSM, x: Tensor, at: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """(s, ds/dx) of all conditionals given x, evaluated at other values, by the model itself."""
    sigma = at.new_tensor(model.levels[level])
    return model.score_and_derivative(at, model.contexts(x, level), sigma, level)


@torch.no_grad()
def by_dimension(model: ARCSM, x: Tensor) -> list[Conditionals]:
    """The conditionals as a sampler meets them, one dimension after another."""
    owner, states, rows = ConditionalModel(model), model.incremental(torch.empty(len(x), 0)), []
    for d, column in enumerate(x.T):
        rows.append(Conditionals(owner, [state.contexts().clone() for state in states], d))
        for state in states:
            state.append(column)
    return rows


@cases
@torch.no_grad()
def test_scores_of_all_examples_are_the_models(
    random_model: Make, x: Tensor, case: dict[str, Any]
) -> None:
    model = random_model(**SCALES, **case)
    rows = ConditionalModel(model).of_examples(x)
    at = x.flip(0)
    for level, sigma in enumerate(model.levels):
        found = torch.stack(rows.at(sigma, level).with_derivative(at.flatten()))
        expected = torch.stack(truth(model, x, at, level)).flatten(1)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


@cases
@torch.no_grad()
def test_scores_met_dimension_by_dimension_are_the_models(
    random_model: Make, x: Tensor, case: dict[str, Any]
) -> None:
    model = random_model(**SCALES, **case)
    at = x.flip(0)
    for d, rows in enumerate(by_dimension(model, x)):
        for level, sigma in enumerate(model.levels):
            expected = truth(model, x, at, level)[0][:, d]
            assert torch.allclose(rows.at(sigma, level)(at[:, d]), expected, rtol=1e-9, atol=1e-9)


@cases
@torch.no_grad()
def test_a_grid_of_values_gives_what_its_columns_give(
    random_model: Make, x: Tensor, case: dict[str, Any]
) -> None:
    model = random_model(**SCALES, **case)
    grid = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for rows in (ConditionalModel(model).of_examples(x), *by_dimension(model, x)):
        score = rows.at(model.sigma_min)
        table = torch.stack(score.with_derivative(grid.expand(len(rows), 7)))
        columns = [torch.stack(score.with_derivative(g.expand(len(rows)))) for g in grid]
        assert torch.allclose(table, torch.stack(columns, -1), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_some_rows_answer_as_they_do_among_all(random_model: Make, x: Tensor) -> None:
    rows = ConditionalModel(random_model(**SCALES)).of_examples(x)
    part, values = rows.rows(slice(4, 9)), x.flatten()
    assert len(part) == 5
    expected = rows.at(0.1)(values)[4:9]
    assert torch.allclose(part.at(0.1)(values[4:9]), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_joint_model_answers_between_its_levels(random_model: Make, x: Tensor) -> None:
    model = random_model(**SCALES)
    expected = model.score(x, model.contexts(x), torch.tensor(0.7, dtype=torch.float64))
    found = ConditionalModel(model).of_examples(x).at(0.7)(x.flatten())
    assert torch.allclose(found, expected.flatten(), rtol=1e-9, atol=1e-9)


@cases
@torch.no_grad()
def test_scores_point_back_beyond_their_reach(
    random_model: Make, x: Tensor, case: dict[str, Any]
) -> None:
    model = random_model(scale=5.0, **SCALES, **case)
    rows = ConditionalModel(model).of_examples(x)
    for level, sigma in enumerate(model.levels):
        score = rows.at(sigma, level)
        for beyond in (1.001, 100.0):
            assert (score(score.mean + beyond * score.reach) < 0).all()
            assert (score(score.mean - beyond * score.reach) > 0).all()


@torch.no_grad()
def test_a_walk_may_give_all_rows_the_same_push(random_model: Make, x: Tensor) -> None:
    score = by_dimension(random_model(**SCALES), x)[1].at(0.1)
    pushes = torch.tensor([[0.1], [-0.3]], dtype=torch.float64)
    each = score.walk(x[:, 1], 1e-3, pushes.expand(2, 6).clone())
    assert torch.allclose(score.walk(x[:, 1], 1e-3, pushes), each, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_walk_leaves_its_start_alone(random_model: Make, x: Tensor) -> None:
    score = by_dimension(random_model(**SCALES), x)[1].at(0.1)
    start = x[:, 1].clone()
    score.walk(start, 1e-3, torch.zeros(1, 1).double())
    assert torch.equal(start, x[:, 1])


@torch.no_grad()
def test_spread_is_that_of_the_rows_dimensions(random_model: Make, x: Tensor) -> None:
    model = random_model(**SCALES)
    spreads = [rows.spread for rows in by_dimension(model, x)]
    assert spreads == [0.25, 1.0, 4.0]
    assert ConditionalModel(model).of_examples(x).spread == 4.0


@cases
@torch.no_grad()
def test_a_walk_takes_the_steps_that_it_says(
    random_model: Make, x: Tensor, case: dict[str, Any]
) -> None:
    model = random_model(**SCALES, **case)
    noise = 0.1 * torch.randn(5, 6, generator=torch.Generator().manual_seed(2)).double()
    for d, rows in enumerate(by_dimension(model, x)):
        for level, sigma in enumerate(model.levels):
            score = rows.at(sigma, level)
            expected = x[:, d]
            for z in noise:
                expected = expected + 1e-3 * score(expected) + z
            assert torch.allclose(
                score.walk(x[:, d], 1e-3, noise.clone()), expected, rtol=1e-10, atol=1e-10
            )
