"""Samples of models with normalised conditionals, and of scores that read pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.registry import LIKELIHOODS
from arcsm_cli.sampling import draw
from arcsm_cli.sampling.ancestral import Ancestral
from arcsm_cli.sampling.draw import Sampler, sample
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow
from arcsm_cli.sampling.samplers import default_sampler

Make = Callable[..., Any]
Check = Callable[[Tensor], None]

GAUSSIAN, MIXTURE, DISCRETE = LIKELIHOODS
COMPONENTS = 2
likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)
contexts = pytest.mark.parametrize("context", ["made", "pixelcnn"])
orders = pytest.mark.parametrize("order", ["raster", "reversed"])


class Noise(SampleNoise):
    """Double precision, so that the samples are as exact as the sampler."""

    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape).double()


@pytest.fixture
def likelihood_model(random_model: Make) -> Make:
    """Makes small models of a likelihood, with weights for the sub-pixels as well."""

    def make(
        likelihood: str,
        context: str = "made",
        shape: tuple[int, ...] = (3, 4, 4),
        sigma: float = 0.0,
        **config: Any,
    ) -> ARMLE:
        discrete = likelihood == DISCRETE
        site = shape[0] if discrete and context == "pixelcnn" else 1
        scales: dict[str, Any] = {"mean": (0.3,), "sd": (0.7,)}
        if discrete:
            scales = {"data_shift": (0.5,), "data_scale": (0.5,)}
        model: ARMLE = random_model(
            shape=shape,
            levels=(sigma,),
            annealing="none",
            context=context,
            likelihood=likelihood,
            components=COMPONENTS,
            context_width=parameter_width(likelihood, COMPONENTS, site),
            filters=4,
            resnet_blocks=1,
            **(scales | config),
        )
        torch.manual_seed(5)
        with torch.no_grad():
            # Values feed on those before: strong weights would let them grow without bound.
            for name, parameter in model.named_parameters():
                if name.endswith("earlier"):
                    parameter.normal_(std=0.2)
                elif name.endswith("context.output.gain"):
                    parameter.mul_(0.3)
        return model

    return make


@torch.no_grad()
def quantiles(model: ARMLE, x: Tensor) -> Tensor:
    """P(X_d <= x_d | x_<d) of sorted examples (B, D), from the parameters of the full pass."""
    parameters, z = model.contexts(x), (x - model.mean) / model.sd
    if model.config.likelihood == GAUSSIAN:
        mean, log_sd = parameters.unbind(-1)
        return torch.special.ndtr((z - mean) / log_sd.exp())
    logits, locations, log_scales = parameters.chunk(3, -1)
    parts = torch.sigmoid((z[..., None] - locations) / log_scales.exp())
    return (logits.softmax(-1) * parts).sum(-1)


@torch.no_grad()
def quantiles_of_levels(model: ARMLE, x: Tensor) -> Tensor:
    """The same of 8-bit values, with a random part of P(x_d | x_<d): uniform again, (B, D)."""
    levels = torch.arange(256, dtype=x.dtype) / 127.5 - 1
    contexts, sites = model.contexts(x).flatten(0, 1), x.reshape(-1, model.config.site)
    parts = torch.rand(sites.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
    found = torch.empty_like(sites)
    for i in range(0, len(sites), 200):
        rows = slice(i, i + 200)
        site, parameters = sites[rows], contexts[rows, None].expand(-1, 256, -1)
        k = ((site + 1) * 127.5).round().long()
        for c in range(model.config.site):
            table = site[:, None].repeat(1, 256, 1)
            table[..., c] = levels
            mass = model.head.log_prob(parameters, table)[..., c].exp()
            own, up_to = (t.gather(1, k[:, c, None])[:, 0] for t in (mass, mass.cumsum(1)))
            found[rows, c] = up_to - own + own * parts[rows, c]
    return found.view_as(x)


def assert_independent(u: Tensor) -> None:
    """Correlations between the columns of uniform numbers (B, D), within 4 deviations of 0."""
    normal = torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))
    correlations = torch.corrcoef(normal.T).fill_diagonal_(0)
    assert correlations.abs().max() < 4 / math.sqrt(len(u))


# the density


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@orders
def test_samples_of_vectors_follow_the_models_density(
    likelihood_model: Make, assert_uniform: Check, likelihood: str, order: str
) -> None:
    model = likelihood_model(likelihood, shape=(3,), order=order)
    x = sample(model, default_sampler(model), Noise(0, range(4000)))
    u = quantiles(model, model.sort(x))
    for column in u.T:
        assert_uniform(column)
    assert_independent(u)


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@contexts
def test_samples_of_images_follow_the_models_density(
    likelihood_model: Make, assert_uniform: Check, likelihood: str, context: str
) -> None:
    model = likelihood_model(likelihood, context)
    x = sample(model, default_sampler(model), Noise(1, range(500)))
    u = quantiles(model, model.sort(x))
    assert_uniform(u.flatten())
    assert_independent(u[:, :6])


@pytest.mark.parametrize(
    ("context", "order"),
    [
        pytest.param("made", "reversed", id="made"),
        pytest.param("pixelcnn", "raster", id="pixelcnn", marks=pytest.mark.slow),
    ],
)
def test_samples_of_8_bit_images_follow_the_models_probabilities(
    likelihood_model: Make, assert_uniform: Check, context: str, order: str
) -> None:
    model = likelihood_model(DISCRETE, context, order=order)
    x = sample(model, default_sampler(model), Noise(1, range(150)))
    assert_uniform(quantiles_of_levels(model, model.sort(x)).flatten())


@torch.no_grad()
def test_samples_of_a_tiny_8_bit_model_occur_as_often_as_enumeration_says(
    likelihood_model: Make,
) -> None:
    model = likelihood_model(DISCRETE, shape=(1, 1, 2))
    n = 20_000
    x = sample(model, default_sampler(model), Noise(2, range(n))).view(n, 2)
    levels = torch.arange(256).double() / 255
    every = torch.cartesian_prod(levels, levels).view(-1, 1, 1, 2)
    p = model.log_prob(model.sort(every)).sum(1).exp().view(256, 256)
    # 64 cells of 32 x 32 levels each, all of them likely enough for a chi-square test.
    cells = p.view(8, 32, 8, 32).sum((1, 3)).flatten()
    k = (x * 255).round().long() // 32
    counts = torch.bincount(8 * k[:, 0] + k[:, 1], minlength=64)
    common = cells * n >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([cells[common], cells[~common].sum()[None]]) * n
    df = int(common.sum())
    assert df > 20
    statistic = ((observed - expected).square() / expected.clamp(min=1e-9)).sum()
    # Wilson and Hilferty's approximation of the quantile of 1 in 1,000.
    t = 2 / (9 * df)
    assert statistic < df * (1 - t + 3.09 * math.sqrt(t)) ** 3


@contexts
def test_8_bit_samples_are_8_bit_values(likelihood_model: Make, context: str) -> None:
    model = likelihood_model(DISCRETE, context)
    x = sample(model, default_sampler(model), Noise(1, range(20)))
    assert x.min() >= 0
    assert x.max() <= 1
    assert torch.allclose(x * 255, (x * 255).round(), rtol=0, atol=1e-9)


@contexts
@torch.no_grad()
def test_samples_of_a_narrow_gaussian_are_its_means(likelihood_model: Make, context: str) -> None:
    model = likelihood_model(GAUSSIAN, context)
    output = model.networks[0].context.output
    # The scale's rows of the output alone: no weights, and a bias far below the bound.
    rows = slice(1, None, 2)
    (output.weight if context == "made" else output.gain)[rows] = 0
    output.bias[rows] = -100
    if context == "pixelcnn":
        model.networks[0].context.earlier[..., 1] = 0
    x = model.sort(sample(model, default_sampler(model), Noise(1, range(4))))
    mean = model.contexts(x)[..., 0]
    assert torch.allclose(x, model.mean + model.sd * mean, rtol=0, atol=0.01)


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@contexts
def test_denoising_returns_the_posterior_mean_of_each_value(
    likelihood_model: Make, likelihood: str, context: str
) -> None:
    sigma = 0.2
    model = likelihood_model(likelihood, context, sigma=sigma)
    noisy = sample(model, default_sampler(model), Noise(5, range(4)))
    clean = sample(model, default_sampler(model), Noise(5, range(4)), denoise=True)
    x = model.sort(noisy)
    c = model.contexts(x).detach()
    value = x.clone().requires_grad_()
    # Given the contexts, a value is in its own conditional alone.
    log_p = model.head.log_prob(c, ((value - model.mean) / model.sd)[..., None])
    (score,) = torch.autograd.grad(log_p.sum(), value)
    assert torch.allclose(model.sort(clean), x + sigma**2 * score, rtol=0, atol=1e-9)


@likelihoods
def test_samples_of_the_data_themselves_are_not_denoised(
    likelihood_model: Make, likelihood: str
) -> None:
    model = likelihood_model(likelihood, "pixelcnn")
    one, other = (
        sample(model, default_sampler(model), Noise(5, range(3)), denoise=d) for d in (True, False)
    )
    assert torch.equal(one, other)


# independence of batches


@likelihoods
@contexts
def test_a_sample_does_not_depend_on_its_shard(
    likelihood_model: Make, likelihood: str, context: str
) -> None:
    model = likelihood_model(likelihood, context)
    sampler = default_sampler(model)
    whole = sample(model, sampler, Noise(5, range(7)))
    shards = [sample(model, sampler, Noise(5, part)) for part in (range(3), range(3, 7))]
    assert torch.allclose(torch.cat(shards), whole, rtol=0, atol=1e-9)


@likelihoods
def test_a_sample_does_not_depend_on_its_batch(likelihood_model: Make, likelihood: str) -> None:
    model = likelihood_model(likelihood, "pixelcnn")
    sampler = default_sampler(model)
    whole = sample(model, sampler, Noise(5, range(5)))
    alone = torch.cat([sample(model, sampler, Noise(5, [i])) for i in range(5)])
    assert torch.allclose(alone, whole, rtol=0, atol=1e-9)


@likelihoods
def test_a_sample_does_not_depend_on_how_many_numbers_are_held(
    likelihood_model: Make, likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = likelihood_model(likelihood, "pixelcnn")
    sampler = default_sampler(model)
    whole = sample(model, sampler, Noise(5, range(4)))
    monkeypatch.setattr(draw, "_NOISE_NUMBERS", 5 * 4 * sampler.draws)
    assert torch.equal(sample(model, sampler, Noise(5, range(4))), whole)


@likelihoods
@contexts
def test_one_seed_gives_one_set_of_samples(
    likelihood_model: Make, likelihood: str, context: str
) -> None:
    model = likelihood_model(likelihood, context)
    sampler = default_sampler(model)
    one, same, other = (sample(model, sampler, Noise(s, range(4))) for s in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@likelihoods
@contexts
def test_samples_have_the_examples_shape(
    likelihood_model: Make, likelihood: str, context: str
) -> None:
    model = likelihood_model(likelihood, context, (3, 4, 8), order="reversed")
    assert sample(model, default_sampler(model), Noise(5, range(2))).shape == (2, 3, 4, 8)


@likelihoods
def test_the_sampler_takes_as_many_numbers_as_the_head(
    likelihood_model: Make, likelihood: str
) -> None:
    model = likelihood_model(likelihood)
    sampler = default_sampler(model)
    assert isinstance(sampler, Ancestral)
    assert sampler.draws == model.head.draws


def test_the_reversed_order_draws_the_last_pixel_first(likelihood_model: Make) -> None:
    model = likelihood_model(GAUSSIAN, "pixelcnn", order="reversed")
    x = sample(model, default_sampler(model), Noise(5, range(3)))
    with torch.no_grad():
        model.networks[0].context.earlier.add_(1.0)  # all but the first sub-pixel of a pixel
    changed = sample(model, default_sampler(model), Noise(5, range(3)))
    same = (x == changed).all(0)
    assert same[0, 3, 3]
    assert not same[1:].any()
    assert same.sum() == 1


# scores that read pixels

SCORE_SAMPLERS: list[Sampler] = [Grid(0.1), ProbabilityFlow(3.0, 0.1), Langevin((3.0, 0.1), 4)]
samplers = pytest.mark.parametrize("sampler", SCORE_SAMPLERS, ids=["grid", "ode", "langevin"])


@samplers
def test_a_sample_of_scores_that_read_pixels_does_not_depend_on_its_batch(
    random_model: Make, sampler: Sampler
) -> None:
    model = random_model(shape=(3, 4, 4), context="pixelcnn", filters=4, resnet_blocks=1)
    whole = sample(model, sampler, Noise(5, range(4)))
    parts = [sample(model, sampler, Noise(5, part)) for part in ([0], range(1, 4))]
    assert torch.allclose(torch.cat(parts), whole, rtol=0, atol=1e-9)


@orders
def test_values_of_scores_that_read_pixels_are_drawn_given_those_before(
    random_model: Make, order: str
) -> None:
    model = random_model(
        shape=(3, 4, 4), context="pixelcnn", filters=4, resnet_blocks=1, order=order
    )
    noisy = sample(model, Grid(0.1), Noise(5, range(4)))
    clean = sample(model, Grid(0.1), Noise(5, range(4)), denoise=True)
    x = model.sort(noisy)
    with torch.no_grad():
        s = model.score(x, model.contexts(x), x.new_tensor(0.1))
    assert torch.allclose(model.sort(clean), x + 0.1**2 * s, rtol=0, atol=1e-7)
