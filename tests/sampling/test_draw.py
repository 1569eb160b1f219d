"""Whole samples: the loop over the dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling import draw
from arcsm_cli.sampling.draw import Sampler, sample
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow

Make = Callable[..., Any]
Check = Callable[[Tensor], None]

STAGED = (1.5, 1.0, 0.7, 0.5, 0.4)
SAMPLERS = [Grid(0.1), ProbabilityFlow(3.0, 0.1), Langevin((3.0, 0.1), 4)]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=["grid", "ode", "langevin"])


class Noise(SampleNoise):
    """Double precision, so that the samples are as exact as the sampler."""

    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape).double()


@torch.no_grad()
def distribution(model: ARCSM, x: Tensor) -> Tensor:
    """P(X_d <= x_d | x_<d) of examples (B, D) by a dense integral of the model's own score."""
    sigma, grid = x.new_tensor(model.sigma_min), torch.linspace(-9, 9, 1001, dtype=x.dtype)
    contexts, result = model.contexts(x), torch.empty_like(x)
    for d in range(x.shape[1]):
        c = contexts[:, d, None, None].expand(-1, len(grid), 1, -1)
        table = grid[None, :, None].expand(len(x), -1, 1)
        s = model.score(table, c, sigma, dims=slice(d, d + 1))[..., 0]
        log_p = torch.cat([s.new_zeros(len(s), 1), torch.cumulative_trapezoid(s, grid)], 1)
        p = (log_p - log_p.max(1, keepdim=True).values).exp()
        cdf = torch.cat([p.new_zeros(len(p), 1), torch.cumulative_trapezoid(p, grid)], 1)
        i = torch.searchsorted(grid, x[:, d].contiguous()).clamp(1, len(grid) - 1)[:, None]
        t = (x[:, d, None] - grid[i - 1]) / (grid[i] - grid[i - 1])
        below = torch.lerp(cdf.gather(1, i - 1), cdf.gather(1, i), t)
        result[:, d] = (below / cdf[:, -1:])[:, 0]
    return result


@pytest.mark.slow
def test_grid_samples_of_random_weights_follow_the_models_density(
    random_model: Make, assert_uniform: Check
) -> None:
    model = random_model(shape=(2,), levels=(3.0, 0.3), scale=1.5)
    u = distribution(model, sample(model, Grid(0.3), Noise(0, range(2000))))
    assert_uniform(u[:, 0])
    assert_uniform(u[:, 1])
    # As dependent as the model says: what is left is independent.
    assert torch.corrcoef(torch.special.ndtri(u).T)[0, 1].abs() < 0.08


@pytest.mark.parametrize("order", ["raster", "reversed"])
def test_grid_samples_follow_a_known_dependent_density(
    mixture: Make, assert_uniform: Check, order: str
) -> None:
    exact = mixture(annealing="staged", levels=STAGED, offset=0.8, order=order)
    x = sample(exact.model, Grid(STAGED[-1]), Noise(1, range(5000)))
    for u in exact.cdf(exact.model.sort(x)).T:
        assert_uniform(u)


def test_langevin_samples_follow_a_known_dependent_density(
    mixture: Make, assert_uniform: Check
) -> None:
    exact = mixture(annealing="staged", levels=STAGED, offset=0.8)
    x = sample(exact.model, Langevin(STAGED, 300, 0.04 * STAGED[-1] ** 2), Noise(1, range(4000)))
    for u in exact.cdf(exact.model.sort(x)).T:
        assert_uniform(u)


def test_ode_samples_follow_a_gaussian_model(gaussian_model: Make, assert_uniform: Check) -> None:
    model = gaussian_model((0.5, -1.0), (0.25, 2.0), levels=(6.0, 0.5))
    x = sample(model, ProbabilityFlow(6.0, 0.5, steps=40), Noise(1, range(5000)))
    for column, mean, sd in zip(x.T, (0.5, -1.0), (0.25, 2.0), strict=True):
        assert_uniform(torch.special.ndtr((column - mean) / (sd**2 + 0.25) ** 0.5))


@samplers
def test_a_sample_does_not_depend_on_its_shard(random_model: Make, sampler: Sampler) -> None:
    model = random_model()
    whole = sample(model, sampler, Noise(5, range(12)))
    shards = [sample(model, sampler, Noise(5, part)) for part in (range(5), range(5, 12))]
    assert torch.allclose(torch.cat(shards), whole, rtol=0, atol=1e-9)


@samplers
def test_a_sample_does_not_depend_on_how_many_numbers_are_held(
    random_model: Make, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(shape=(5,))
    whole = sample(model, sampler, Noise(5, range(4)))
    monkeypatch.setattr(draw, "_NOISE_NUMBERS", 2 * 4 * sampler.draws)
    assert torch.equal(sample(model, sampler, Noise(5, range(4))), whole)


@samplers
def test_one_seed_gives_one_set_of_samples(random_model: Make, sampler: Sampler) -> None:
    model = random_model()
    one, same, other = (sample(model, sampler, Noise(s, range(4))) for s in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other).any()


@samplers
def test_samples_have_the_examples_shape_and_scale(random_model: Make, sampler: Sampler) -> None:
    plain = random_model(shape=(3, 1, 2), order="reversed")
    scaled = random_model(shape=(3, 1, 2), order="reversed", data_shift=(0.5,), data_scale=(0.25,))
    one, other = (sample(m, sampler, Noise(5, range(4))) for m in (plain, scaled))
    assert one.shape == (4, 3, 1, 2)
    assert torch.allclose(other, 0.5 + 0.25 * one)


def test_values_are_drawn_in_the_variable_order(random_model: Make) -> None:
    model = random_model(shape=(4,), order="reversed")
    x = sample(model, Grid(0.1), Noise(5, range(6)))
    with torch.no_grad():
        model.networks[0].context.output.bias[-3:].add_(1.0)  # the last variable's context
    changed = sample(model, Grid(0.1), Noise(5, range(6)))
    assert (x != changed).any(0).tolist() == [True, False, False, False]


@samplers
def test_denoising_returns_the_posterior_mean_of_each_value(
    random_model: Make, sampler: Sampler
) -> None:
    model = random_model()
    noisy = sample(model, sampler, Noise(5, range(6)))
    clean = sample(model, sampler, Noise(5, range(6)), denoise=True)
    x = model.sort(noisy)
    with torch.no_grad():
        s = model.score(x, model.contexts(x), torch.tensor(0.1).double())
    assert torch.allclose(model.sort(clean), x + 0.1**2 * s, rtol=0, atol=1e-7)


@pytest.mark.parametrize("part", ["context", "score"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_langevin_goes_through_every_stage(random_model: Make, stage: int, part: str) -> None:
    model = random_model(annealing="staged", levels=(1.0, 0.4, 0.1))
    sampler = Langevin(model.levels, 3)
    before = sample(model, sampler, Noise(5, range(4)))
    with torch.no_grad():
        for parameter in getattr(model.networks[stage], part).parameters():
            parameter.add_(0.1)
    assert not torch.equal(sample(model, sampler, Noise(5, range(4))), before)


@pytest.mark.parametrize("stage", [0, 1])
def test_grid_samples_a_staged_model_at_its_last_stage(random_model: Make, stage: int) -> None:
    model = random_model(annealing="staged", levels=(1.0, 0.4, 0.1))
    before = sample(model, Grid(0.1), Noise(5, range(4)))
    with torch.no_grad():
        for parameter in model.networks[stage].parameters():
            parameter.add_(0.1)
    assert torch.equal(sample(model, Grid(0.1), Noise(5, range(4))), before)


def test_progress_is_told_of_every_dimension(random_model: Make) -> None:
    ticks: list[int] = []
    sample(random_model(shape=(5,)), Grid(0.1), Noise(0, range(2)), tick=ticks.append)
    assert ticks == [1] * 5
