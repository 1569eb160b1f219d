"""Noisy batches: which input sees which noise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb

Make = Callable[..., ARCSM]

KINDS: list[dict[str, Any]] = [
    {"annealing": "joint", "levels": (3.0, 0.1)},
    {"annealing": "staged", "levels": (1.0, 0.4, 0.1)},
    {"annealing": "none", "levels": (0.1,)},
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k["annealing"])


def data(rows: int = 4000) -> Tensor:
    return torch.linspace(-1, 1, 3 * rows, dtype=torch.float64).view(rows, 3)


def noisy(model: ARCSM, x: Tensor, seed: int = 0, **options: Any) -> NoisyBatch:
    return perturb(model, x, Generator().manual_seed(seed), **options)


@kinds
def test_the_score_input_is_data_plus_its_noise(random_model: Make, kind: dict[str, Any]) -> None:
    batch = noisy(random_model(**kind), data(), draws=2)
    assert torch.equal(batch.score_input, data() + batch.sigma * batch.noise)


@kinds
def test_the_context_input_carries_noise_of_the_last_level(
    random_model: Make, kind: dict[str, Any]
) -> None:
    noise = noisy(random_model(**kind), data()).context_input.x - data()
    assert abs(noise.std() / 0.1 - 1) < 0.03
    assert abs(noise.mean()) < 0.005


@kinds
def test_context_noise_and_score_noise_are_independent(
    random_model: Make, kind: dict[str, Any]
) -> None:
    batch = noisy(random_model(**kind), data())
    context = (batch.context_input.x - data()).flatten()
    assert abs(torch.corrcoef(torch.stack([context, batch.noise.flatten()]))[0, 1]) < 0.04


@kinds
def test_score_noise_is_standard_normal(
    random_model: Make, kind: dict[str, Any], assert_uniform: Callable[[Tensor], None]
) -> None:
    assert_uniform(torch.special.ndtr(noisy(random_model(**kind), data()).noise.flatten()))


def test_joint_levels_stay_in_their_range(random_model: Make) -> None:
    sigma = noisy(random_model(), data(), draws=2).sigma
    assert sigma.shape == (2, 4000, 3)
    assert sigma.min() >= 0.1 * (1 - 1e-9)
    assert sigma.max() <= 3.0 * (1 + 1e-9)


@pytest.mark.parametrize("draws", [1, 3])
def test_joint_levels_fall_one_into_each_equal_part_of_the_log_range(
    random_model: Make, draws: int
) -> None:
    rows = 50
    sigma = noisy(random_model(), data(rows), draws=draws).sigma.view(-1, 3)
    place = (sigma / 0.1).log() / torch.tensor(30.0).log() * draws * rows
    assert torch.equal(place.floor().sort(0).values[:, 0], torch.arange(draws * rows).double())


@pytest.mark.slow
def test_joint_levels_of_an_examples_dimensions_are_independent(random_model: Make) -> None:
    shift = torch.stack(
        [noisy(random_model(), data(8), seed).sigma[0].log() for seed in range(400)]
    )
    correlation = torch.corrcoef(shift[:, 0].T)
    assert correlation.triu(1).abs().max() < 0.2


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_stage_sees_its_own_level_alone(random_model: Make, level: int) -> None:
    model = random_model(annealing="staged", levels=(1.0, 0.4, 0.1))
    batch = noisy(model, data(), level=level)
    assert float(batch.sigma) == model.levels[level]
    assert batch.level == level


@kinds
def test_a_batch_is_a_function_of_its_generator(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(**kind)
    one, same, other = (noisy(model, data(5), seed) for seed in (1, 1, 2))
    for found in (lambda b: b.context_input.x, lambda b: b.score_input, lambda b: b.sigma):
        assert torch.equal(found(one), found(same))
    assert not torch.equal(one.score_input, other.score_input)


def test_the_global_generator_is_left_alone(random_model: Make) -> None:
    model = random_model()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    noisy(model, data(5))
    assert torch.equal(torch.rand(1), expected)


def test_without_noise_the_data_are_left_alone(random_model: Make) -> None:
    batch = noisy(random_model(annealing="none", levels=(0.0,)), data(5))
    assert torch.equal(batch.context_input.x, data(5))
    assert torch.equal(batch.score_input[0], data(5))
