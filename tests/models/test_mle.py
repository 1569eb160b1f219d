"""Models with normalised conditionals: their densities, walks and denoising."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.restore import make_model
from arcsm_cli.objectives.mle import mle
from arcsm_cli.objectives.noisy_batch import perturb
from arcsm_cli.randomness import Draws
from arcsm_cli.registry import LIKELIHOODS
from tests.models.images import noisy
from tests.models.likelihoods import (
    COMPONENTS,
    DISCRETE,
    GAUSSIAN,
    KINDS,
    MIXTURE,
    Make,
    every,
    examples,
    log_prob_of,
    settings_of,
)

# densities


@every
@torch.no_grad()
def test_densities_of_a_walk_are_those_of_the_full_pass(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    x = model.sort(examples(model, 3))
    expected, walk = model.log_prob(x), model.walk(torch.empty(3, 0))
    for d, column in enumerate(x.T):
        found = log_prob_of(model, walk.conditionals(), column, d)
        assert torch.allclose(found, expected[:, d], rtol=1e-9, atol=1e-9)
        walk.append(column)


@pytest.mark.parametrize("order", ["reversed", "random"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@torch.no_grad()
def test_densities_of_a_walk_are_those_of_the_full_pass_in_any_order(
    random_model: Make, likelihood: str, order: str
) -> None:
    context = "made" if order == "random" else "pixelcnn"
    model = noisy(random_model(order=order, **settings_of(likelihood, context)))
    x = model.sort(examples(model, 2))
    expected, walk = model.log_prob(x), model.walk(torch.empty(2, 0))
    for d, column in enumerate(x.T):
        found = log_prob_of(model, walk.conditionals(), column, d)
        assert torch.allclose(found, expected[:, d], rtol=1e-9, atol=1e-9)
        walk.append(column)


@every
@torch.no_grad()
def test_a_density_does_not_depend_on_later_values(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    x, other = (model.sort(examples(model, 1, seed)) for seed in (0, 1))
    d = x.shape[1]
    # Row i has the first i + 1 values of x.
    rows = torch.where(torch.ones(d, d, dtype=torch.bool).tril(), x, other)
    found = model.log_prob(rows).diagonal()
    assert torch.allclose(found, model.log_prob(x)[0], rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def axis() -> tuple[Tensor, Tensor]:
    """Nodes and weights on the whole line: dense near 0, far in the tails, smooth between."""
    t = torch.linspace(-7, 7, 701, dtype=torch.float64)
    return torch.sinh(t), torch.cosh(t) * (t[1] - t[0])


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_densities_of_one_dimension_integrate_to_one(
    random_model: Make, axis: tuple[Tensor, Tensor], likelihood: str, seed: int
) -> None:
    model = random_model(seed=seed, **settings_of(likelihood, shape=(1,)))
    points, weights = axis
    total = (model.log_prob(points[:, None])[:, 0].exp() * weights).sum()
    assert abs(total - 1) < 1e-6


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("order", ["raster", "reversed"])
@torch.no_grad()
def test_joint_densities_of_two_dimensions_integrate_to_one(
    random_model: Make, axis: tuple[Tensor, Tensor], likelihood: str, order: str
) -> None:
    scales = {"mean": (0.3, -1.0), "sd": (0.7, 1.5)}
    model = random_model(order=order, **(settings_of(likelihood, shape=(2,)) | scales))
    points, weights = (v[::2] for v in axis)
    log_p = model.log_prob(torch.cartesian_prod(points, points)).sum(1)
    total = 4 * (log_p.exp() * torch.cartesian_prod(weights, weights).prod(1)).sum()
    assert abs(total - 1) < 1e-4


@torch.no_grad()
def test_probabilities_of_all_8_bit_images_sum_to_one(random_model: Make) -> None:
    model = random_model(**settings_of(DISCRETE, shape=(1, 1, 2)))
    levels = torch.arange(256).double() / 255
    images = torch.cartesian_prod(levels, levels).view(-1, 1, 1, 2)
    log_p = model.log_prob(model.sort(images)).sum(1)
    assert torch.logsumexp(log_p, 0).abs() < 1e-9


@torch.no_grad()
def test_a_density_of_vectors_scales_with_the_data(random_model: Make) -> None:
    plain = settings_of(GAUSSIAN, shape=(3,)) | {"mean": (0.0,), "sd": (1.0,)}
    moved = plain | {"mean": (0.5, -1.0, 2.0), "sd": (0.25, 1.0, 4.0)}
    one, other = random_model(**plain), random_model(**moved)
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)).double()
    x = z * other.sd + other.mean
    # The first dimension has no context: the same density, stretched.
    expected = one.log_prob(z)[:, 0] - other.sd[0].log()
    assert torch.allclose(other.log_prob(x)[:, 0], expected, rtol=1e-12)


def test_8_bit_densities_take_the_nearest_level(random_model: Make) -> None:
    model = random_model(**settings_of(DISCRETE))
    image = examples(model, 4)
    noise = (torch.rand(image.shape, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.9 / 255
    assert torch.equal(model.sort(image + noise), model.sort(image))


@every
@torch.no_grad()
def test_sorting_and_back_gives_the_examples(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(order="reversed", **settings_of(likelihood, context))
    image = examples(model, 3)
    assert torch.allclose(model.unsort(model.sort(image)), image, rtol=0, atol=1e-12)


@every
@torch.no_grad()
def test_the_objective_is_the_mean_negative_log_likelihood_of_the_noisy_examples(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(**settings_of(likelihood, context))
    batch = perturb(model, model.sort(examples(model, 4)), torch.Generator().manual_seed(0))
    expected = -torch.stack([model.log_prob(x[None]).sum() for x in batch.context_input.x]).mean()
    assert torch.allclose(mle(model, batch, Draws(torch.Generator())), expected, rtol=1e-12)


def test_the_first_variables_mixture_starts_with_components_apart() -> None:
    """It has biases alone: equal ones would get equal gradients and stay together."""
    model = make_model(ModelConfig(**settings_of(MIXTURE, shape=(3,))))
    first = model.contexts(torch.zeros(1, 3))[0, 0].view(3, COMPONENTS)
    assert float(first[1].detach().diff().min()) > 0.5


@every
def test_every_weight_gets_a_gradient(random_model: Make, likelihood: str, context: str) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    batch = perturb(model, model.sort(examples(model, 4)), torch.Generator().manual_seed(0))
    mle(model, batch, Draws(torch.Generator())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


# denoising


def of_every_dimension(model: ARMLE, x: Tensor) -> Tensor:
    """Return E[clean | x] of sorted examples by walking along them."""
    walk, found = model.walk(torch.empty(len(x), 0)), []
    with torch.no_grad():
        for column in x.T:
            found.append(walk.conditionals().denoised(column))
            walk.append(column)
    return torch.stack(found, 1)


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_denoising_a_gaussian_is_the_mean_of_the_posterior(
    random_model: Make, context: str
) -> None:
    sigma = 0.3
    model = noisy(random_model(**settings_of(GAUSSIAN, context, sigma=sigma)))
    x = model.sort(examples(model, 3))
    with torch.no_grad():
        mean, log_sd = model.contexts(x).unbind(-1)
    mean, variance = model.mean + model.sd * mean, (model.sd * log_sd.exp()).square()
    # Of X = clean + noise with X ~ N(mean, variance): clean varies by what noise does not.
    expected = (mean * sigma**2 + x * (variance - sigma**2)) / variance
    assert torch.allclose(of_every_dimension(model, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_denoising_moves_along_the_score_of_the_own_conditional(
    random_model: Make, likelihood: str, context: str
) -> None:
    sigma, h = 0.3, 1e-5
    model = noisy(random_model(**settings_of(likelihood, context, sigma=sigma)))
    x = model.sort(examples(model, 2))
    found = of_every_dimension(model, x)
    with torch.no_grad():
        for d in range(0, x.shape[1], 7):
            step = torch.zeros_like(x)
            step[:, d] = h
            up, down = (model.log_prob(x + s * step)[:, d] for s in (1, -1))
            expected = x[:, d] + sigma**2 * (up - down) / (2 * h)
            assert torch.allclose(found[:, d], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("likelihood", "context"), KINDS)
def test_without_noise_there_is_nothing_to_denoise(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(**settings_of(likelihood, context, sigma=0.0))
    x = model.sort(examples(model, 2))
    assert torch.equal(of_every_dimension(model, x), x)
