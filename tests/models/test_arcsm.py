"""The whole model: scores, preconditioning, and the way to and from file units."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM, Preconditioning
from arcsm_cli.models.config import ModelConfig

Make = Callable[..., ARCSM]

KINDS: list[dict[str, Any]] = [
    {"annealing": "joint", "levels": (3.0, 0.1)},
    {"annealing": "staged", "levels": (1.0, 0.4, 0.1)},
    {"annealing": "none", "levels": (0.1,)},
    {"annealing": "none", "levels": (0.0,)},
    {"annealing": "joint", "levels": (3.0, 0.1), "frames": "linear", "score_input": "noise"},
    {"annealing": "staged", "levels": (1.0, 0.4, 0.1), "frames": "contexts"},
]
kinds = pytest.mark.parametrize(
    "kind", KINDS, ids=lambda k: f"{k['annealing']} {k['levels'][-1]} {k.get('frames', 'none')}"
)


def examples(batch: int, dimensions: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, dimensions, generator=generator, dtype=torch.float64)


def sigma_of(model: ARCSM) -> Tensor:
    return torch.tensor(model.sigma_min, dtype=torch.float64)


@kinds
def test_the_derivative_is_that_of_the_score(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(**kind)
    x = examples(6, 3).requires_grad_()
    c = model.contexts(x).detach()
    s, ds = model.score_and_derivative(x, c, sigma_of(model))
    (expected,) = torch.autograd.grad(s.sum(), x)
    assert ((ds - expected).abs() <= 1e-10 * expected.abs()).all()


@kinds
def test_the_score_is_the_same_with_and_without_derivative(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(**kind)
    x = examples(6, 3)
    c = model.contexts(x)
    s, _ = model.score_and_derivative(x, c, sigma_of(model))
    assert torch.allclose(model.score(x, c, sigma_of(model)), s, rtol=1e-12, atol=1e-12)


@kinds
def test_the_score_of_a_dimension_does_not_depend_on_later_ones(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(shape=(5,), **kind)

    def score(x: Tensor) -> Tensor:
        return model.score(x, model.contexts(x), sigma_of(model))[0]

    jacobian = torch.autograd.functional.jacobian(score, examples(1, 5))[:, 0]
    assert torch.equal(jacobian.triu(1), torch.zeros(5, 5).double())
    assert (jacobian.tril() != 0).sum() == 15


def test_the_score_is_that_of_the_preconditioned_denoiser(random_model: Make) -> None:
    mean, sd = (0.5, -1.0, 2.0), (0.25, 1.0, 4.0)
    model = random_model(mean=mean, sd=sd)
    x, sigma = examples(6, 3), 0.5
    c = model.contexts(x)
    s = model.score(x, c, torch.tensor(sigma).double())
    m, v = torch.tensor(mean).double(), torch.tensor(sd).double().square()
    total = v + sigma**2
    c_in, c_skip, c_out = total.rsqrt(), v / total, sigma * (v / total).sqrt()
    f = model.stage().score.value(c_in * (x - m), c, torch.tensor(sigma, dtype=torch.float64).log())
    denoised = m + c_skip * (x - m) + c_out * f
    assert torch.allclose(s, (denoised - x) / sigma**2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 50.0])
@torch.no_grad()
def test_the_pull_dominates_the_network_in_the_tails(random_model: Make, sigma: float) -> None:
    model = random_model(scale=20.0, mean=(1.0,), sd=(0.5,))
    noise = torch.tensor(sigma, dtype=torch.float64)
    p = Preconditioning.of(model.mean, model.sd, noise)
    reach = float((model.stage().score.bound * p.gain / -p.pull).max())
    c = 100.0 * model.contexts(examples(6, 3))
    for beyond in (1.001, 10.0, 1e6):
        x = model.mean.expand(6, 3) + beyond * reach
        assert (model.score(x, c, noise) < 0).all()
        assert (model.score(2 * model.mean - x, c, noise) > 0).all()


def test_preconditioning_without_noise_takes_the_scale_of_the_data() -> None:
    sd = torch.tensor([0.5, 2.0])
    without = Preconditioning.of(torch.zeros(2), sd, torch.tensor(0.0))
    assert all(
        torch.equal(*pair)
        for pair in zip(without, Preconditioning.of(torch.zeros(2), sd, sd), strict=True)
    )


def test_some_dimensions_can_be_asked_alone(random_model: Make) -> None:
    model = random_model(mean=(0.5, -1.0, 2.0), sd=(0.25, 1.0, 4.0))
    x = examples(6, 3)
    c, sigma = model.contexts(x), torch.tensor(0.5).double()
    whole = model.score(x, c, sigma)
    part = model.score(x[:, 1:2], c[:, 1:2], sigma, dims=slice(1, 2))
    assert torch.allclose(part, whole[:, 1:2], rtol=1e-12, atol=1e-12)


def test_every_stage_answers_for_its_own_level(random_model: Make) -> None:
    model = random_model(annealing="staged", levels=(1.0, 0.4, 0.1))
    x, sigma = examples(6, 3), torch.tensor(0.4).double()
    before = [model.score(x, model.contexts(x, i), sigma, i) for i in range(3)]
    with torch.no_grad():
        for parameter in model.stages[1].parameters():
            parameter.add_(0.5)
    after = [model.score(x, model.contexts(x, i), sigma, i) for i in range(3)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("annealing", "levels", "count"),
    [("joint", (1.0, 0.4, 0.1), 1), ("staged", (1.0, 0.4, 0.1), 3), ("none", (0.1,), 1)],
)
def test_only_staged_annealing_has_a_network_for_each_level(
    random_model: Make, annealing: str, levels: tuple[float, ...], count: int
) -> None:
    assert len(random_model(annealing=annealing, levels=levels).networks) == count


@pytest.mark.parametrize("order", ["raster", "reversed", "random"])
@pytest.mark.parametrize("shape", [(4,), (3, 2, 2)], ids=str)
def test_sort_and_unsort_are_inverse(
    random_model: Make, order: str, shape: tuple[int, ...]
) -> None:
    count = math.prod(shape)
    shift = tuple(float(i) for i in range(count))
    scale = tuple(1.0 + i for i in range(count))
    model = random_model(shape=shape, order=order, data_shift=shift, data_scale=scale)
    x = examples(5, count).view(5, *shape)
    assert torch.allclose(model.unsort(model.sort(x)), x, rtol=1e-12, atol=1e-12)


def test_sorting_standardises_each_column_with_its_own_numbers(random_model: Make) -> None:
    model = random_model(order="reversed", data_shift=(1.0, 2.0, 3.0), data_scale=(4.0, 5.0, 6.0))
    rows = model.sort(torch.tensor([[5.0, 12.0, 21.0]]).double())
    assert rows.tolist() == [[3.0, 2.0, 1.0]]


def test_images_go_to_the_scale_from_minus_one_to_one(random_model: Make) -> None:
    model = random_model(shape=(1, 1, 2), data_shift=(0.5,), data_scale=(0.5,))
    rows = model.sort(torch.tensor([[[[0.0, 1.0]]]]).double())
    assert rows.tolist() == [[-1.0, 1.0]]


def test_mean_and_spread_follow_the_variable_order(random_model: Make) -> None:
    model = random_model(order="reversed", mean=(1.0, 2.0, 3.0), sd=(4.0, 5.0, 6.0))
    assert model.mean.tolist() == [3.0, 2.0, 1.0]
    assert model.sd.tolist() == [6.0, 5.0, 4.0]


def test_settings_are_not_among_the_saved_tensors(random_model: Make) -> None:
    model = random_model()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_low_precision_touches_contexts_alone(random_model: Make) -> None:
    model = random_model().float()
    x = examples(6, 3).float()
    exact = model.contexts(x)
    s = model.score(x, exact, torch.tensor(0.1))
    model.low_precision = True
    rounded = model.contexts(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()
    assert torch.equal(model.score(x, exact, torch.tensor(0.1)), s)


def test_an_unusable_config_is_refused() -> None:
    with pytest.raises(ValueError, match="descending"):
        ARCSM(ModelConfig(shape=(2,), levels=(0.1, 1.0)))


def test_a_scale_of_its_own_keeps_a_column_far_from_zero(random_model: Make) -> None:
    x = 1e9 + torch.randn(50, 3, dtype=torch.float64)
    model = random_model(shape=(3,), data_shift=(1e9,) * 3, data_scale=(1.0, 2.0, 1.0))
    rows = model.sort(x)
    assert rows.abs().max() < 10
    assert torch.allclose(model.unsort(rows).double(), x, rtol=0, atol=1e-6)
