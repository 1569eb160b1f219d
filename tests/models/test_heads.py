"""Heads: each is a density, its gradients are right, and its draws follow it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.heads import (
    DiscretizedLogisticMixture,
    Gaussian,
    Head,
    LogisticMixture,
    make_head,
)
from arcsm_cli.registry import LIKELIHOODS

Check = Callable[[Tensor], None]

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
HALF_BIN = 1 / 255
BOUNDS = (-7.0, 20.0)  # of log scales


def width_of(head: Head) -> int:
    """P, how many parameters a head takes."""
    if isinstance(head, DiscretizedLogisticMixture):
        return head.width(head.components, head.site)
    if isinstance(head, LogisticMixture):
        return head.width(head.components, 1)
    return head.width(1, 1)


def random(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_levels(shape: tuple[int, ...], seed: int) -> Tensor:
    """Values of 8-bit images, both ends of the range often among them."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(-40, 296, shape, generator=generator).clamp(0, 255)
    return LEVELS[k]


CONTINUOUS: list[Head] = [Gaussian(), LogisticMixture(1), LogisticMixture(4)]
DISCRETE = [DiscretizedLogisticMixture(k, c) for k, c in [(1, 1), (5, 1), (1, 3), (4, 3), (3, 2)]]


def name(head: Any) -> str:
    return " ".join(map(str, (type(head).__name__, *vars(head).values())))


every = pytest.mark.parametrize("head", [*CONTINUOUS, *DISCRETE], ids=name)
continuous = pytest.mark.parametrize("head", CONTINUOUS, ids=name)
discrete = pytest.mark.parametrize("head", DISCRETE, ids=name)
seeds = st.integers(0, 2**32 - 1)


def values_for(head: Head, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """Return values (*shape, S) that the head has densities of."""
    shape = (*shape, head.site)
    return random_levels(shape, seed) if head.discrete else random(shape, seed, 2.0)


def sites_with(head: Head, earlier: Tensor, values: Tensor) -> Tensor:
    """Return sites (N, G, S): ``earlier`` (N, k), then each of ``values`` (G,), then anything."""
    n, k = earlier.shape
    sites = torch.full((n, len(values), head.site), 0.5, dtype=earlier.dtype)
    sites[:, :, :k] = earlier[:, None]
    sites[:, :, k] = values
    return sites


def of_levels(head: Head, parameters: Tensor, earlier: Tensor) -> Tensor:
    """Return log p of the 256 levels of the channel after ``earlier`` (N, k): (N, 256)."""
    found = []
    for p, known in zip(parameters.split(200), earlier.split(200), strict=True):
        sites = sites_with(head, known, LEVELS.to(known.dtype))
        found.append(head.log_prob(p[:, None].expand(-1, 256, -1), sites)[..., known.shape[1]])
    return torch.cat(found)


def draw_site(head: Head, parameters: Tensor, seed: int) -> Tensor:
    """Draw all values of N sites in turn, (N, S)."""
    n = len(parameters)
    z = random((n, head.site, head.draws), seed).to(parameters.dtype)
    x = parameters.new_empty(n, 0)
    for c in range(head.site):
        x = torch.cat([x, head.draw(parameters, x, z[:, c])[:, None]], 1)
    return x


# what every head offers


@every
def test_log_densities_have_the_shape_of_the_values(head: Head) -> None:
    parameters, x = random((2, 5, width_of(head)), 0), values_for(head, (2, 5))
    assert head.log_prob(parameters, x).shape == x.shape


@every
def test_sites_do_not_see_each_other(head: Head) -> None:
    parameters, x = random((6, width_of(head)), 0), values_for(head, (6,))
    together = head.log_prob(parameters, x)
    alone = torch.stack([head.log_prob(p, v) for p, v in zip(parameters, x, strict=True)])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12)


@discrete
def test_a_channel_does_not_see_later_ones(head: Head) -> None:
    parameters, x = random((20, width_of(head)), 0), values_for(head, (20,))
    for c in range(head.site):
        changed = x.clone()
        changed[:, c + 1 :] = values_for(head, (20,), seed=2)[:, c + 1 :]
        one, other = head.log_prob(parameters, x), head.log_prob(parameters, changed)
        assert torch.equal(one[:, : c + 1], other[:, : c + 1])


@pytest.mark.parametrize("head", [h for h in DISCRETE if h.site > 1], ids=name)
def test_a_channel_sees_the_earlier_ones(head: Head) -> None:
    parameters, x = random((20, width_of(head)), 0), values_for(head, (20,))
    for c in range(1, head.site):
        for earlier in range(c):
            changed = x.clone()
            changed[:, earlier] = -x[:, earlier]
            one, other = head.log_prob(parameters, x), head.log_prob(parameters, changed)
            assert not torch.isclose(one[:, c], other[:, c]).all()


@every
def test_gradients_pass_the_check(head: Head) -> None:
    parameters = random((3, width_of(head)), 0).requires_grad_()
    x = values_for(head, (3,))
    assert torch.autograd.gradcheck(lambda p: head.log_prob(p, x), (parameters,))


@continuous
def test_gradients_in_the_value_pass_the_check(head: Head) -> None:
    parameters, x = random((3, width_of(head)), 0), values_for(head, (3,)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: head.log_prob(parameters, v), (x,))


extremes = st.sampled_from([0.0, 1.0, -1.0, 7.0, -7.0, 100.0, -100.0, 1e4, -1e4])


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(data=st.data())
def test_extreme_parameters_give_finite_values_and_gradients(
    head: Head, dtype: torch.dtype, data: st.DataObject
) -> None:
    width = width_of(head)
    drawn = data.draw(st.lists(extremes, min_size=width, max_size=width))
    parameters = torch.tensor([drawn], dtype=dtype, requires_grad=True)
    if head.discrete:
        x = LEVELS[data.draw(st.lists(st.integers(0, 255), min_size=head.site, max_size=head.site))]
    else:
        x = torch.tensor([data.draw(extremes)])
    log_p = head.log_prob(parameters, x[None].to(dtype))
    (gradient,) = torch.autograd.grad(log_p.sum(), parameters)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()


@every
@pytest.mark.parametrize("z", [-40.0, -9.0, 9.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_random_numbers_give_finite_draws(head: Head, z: float, dtype: torch.dtype) -> None:
    parameters = random((8, width_of(head)), 0).to(dtype)
    earlier = values_for(head, (8,))[:, : head.site - 1].to(dtype)
    x = head.draw(parameters, earlier, torch.full((8, head.draws), z, dtype=dtype))
    assert x.isfinite().all()


# continuous densities


def natural_pieces(head: Head, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of a Gauss-Legendre rule for one site's density.

    Its pieces are at most a scale of each component long near that component.
    """
    groups = 3 if isinstance(head, LogisticMixture) else 2
    locations, log_scales = parameters.chunk(groups)[-2:]
    scales = log_scales.clamp(*BOUNDS).exp()
    steps = torch.linspace(-45, 45, 91, dtype=torch.float64)
    ends = (locations[:, None] + scales[:, None] * steps).flatten().sort().values
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(12))
    half = ends.diff()[:, None] / 2
    points = ends[:-1, None] + half * (nodes + 1)
    return points.flatten(), (half * weights).flatten()


@continuous
@given(seed=seeds, scale=st.floats(0.1, 3.0))
def test_continuous_densities_integrate_to_one(head: Head, seed: int, scale: float) -> None:
    parameters = random((width_of(head),), seed, scale)
    points, weights = natural_pieces(head, parameters)
    total = (head.log_prob(parameters, points[:, None])[:, 0].exp() * weights).sum()
    assert abs(total - 1) < 1e-9


@given(seed=seeds)
def test_a_gaussian_has_the_normal_density(seed: int) -> None:
    parameters, x = random((10, 2), seed), random((10, 1), seed + 1)
    normal = torch.distributions.Normal(parameters[:, :1], parameters[:, 1:].exp())
    assert torch.allclose(Gaussian().log_prob(parameters, x), normal.log_prob(x), rtol=1e-12)


def mixture_cdf(parameters: Tensor, x: Tensor) -> Tensor:
    """P(X <= x) of logistic mixtures with parameters (N, 3K), (N,)."""
    logits, locations, log_scales = parameters.chunk(3, -1)
    parts = torch.sigmoid((x[:, None] - locations) / log_scales.clamp(*BOUNDS).exp())
    return (logits.softmax(-1) * parts).sum(-1)


@given(seed=seeds)
def test_a_mixtures_density_is_the_derivative_of_its_distribution_function(seed: int) -> None:
    parameters, x = random((10, 12), seed), random((10,), seed + 1).requires_grad_()
    (density,) = torch.autograd.grad(mixture_cdf(parameters, x).sum(), x)
    log_p = LogisticMixture(4).log_prob(parameters, x[:, None])[:, 0]
    assert torch.allclose(log_p.exp(), density, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("components", [1, 2, 10, 100])
def test_a_mixture_starts_as_wide_as_standardised_data_with_components_apart(
    components: int,
) -> None:
    logits, places, log_scales = LogisticMixture(components).start().double().chunk(3)
    assert torch.equal(logits, torch.zeros_like(logits))
    variance = places.square().mean() + (log_scales.exp() * math.pi).square().mean() / 3
    assert (float(places.mean()), float(variance)) == pytest.approx((0, 1), abs=0.2)
    assert bool((places.diff() > 0.5 / components).all())


@pytest.mark.parametrize("scale", BOUNDS)
def test_scales_beyond_the_bounds_count_as_the_bounds(scale: float) -> None:
    beyond = scale + math.copysign(5.0, scale)
    for head, at in [(Gaussian(), 1), (LogisticMixture(1), 2), (DISCRETE[0], 2)]:
        parameters = torch.zeros(2, width_of(head), dtype=torch.float64)
        parameters[:, at] = parameters.new_tensor([scale, beyond])
        x = torch.full((2, 1), float(LEVELS[130]), dtype=torch.float64)
        one, other = head.log_prob(parameters, x)
        assert torch.equal(one, other)


# 8-bit levels


@discrete
@given(seed=seeds, scale=st.floats(0.1, 3.0))
def test_probabilities_of_the_levels_sum_to_one(head: Head, seed: int, scale: float) -> None:
    parameters = random((4, width_of(head)), seed, scale)
    x = random_levels((4, head.site), seed + 1)
    for c in range(head.site):
        total = torch.logsumexp(of_levels(head, parameters, x[:, :c]), -1)
        assert total.abs().max() < 1e-9


@discrete
@given(seed=seeds, scale=st.floats(0.1, 1.5))
def test_in_single_precision_they_sum_to_one_given_what_the_head_drew(
    head: Head, seed: int, scale: float
) -> None:
    parameters = random((4, width_of(head)), seed, scale).float()
    x = draw_site(head, parameters, seed=1)
    for c in range(head.site):
        total = torch.logsumexp(of_levels(head, parameters, x[:, :c]), -1)
        assert total.abs().max() < 1e-4


@discrete
@given(seed=seeds, scale=st.floats(0.1, 3.0))
def test_probabilities_do_not_exceed_one(head: Head, seed: int, scale: float) -> None:
    parameters, x = random((20, width_of(head)), seed, scale), values_for(head, (20,), seed)
    assert (head.log_prob(parameters, x) < 1e-9).all()


def split(head: DiscretizedLogisticMixture, parameters: Tensor) -> dict[str, Any]:
    """Name the parameters (N, P), as the class states their order."""
    groups = list(parameters.unflatten(-1, (-1, head.components)).unbind(1))
    s = head.site
    pairs = [(c, j) for c in range(s) for j in range(c)]  # (G, R), (B, R), (B, G)
    return {
        "log weights": groups[0].log_softmax(-1),
        "locations": groups[1 : 1 + s],
        "scales": [g.clamp(*BOUNDS).exp() for g in groups[1 + s : 1 + 2 * s]],
        "coefficients": dict(zip(pairs, (g.tanh() for g in groups[1 + 2 * s :]), strict=True)),
    }


def masses(head: DiscretizedLogisticMixture, parameters: Tensor, x: Tensor) -> Tensor:
    """Return each component's mass of the bin of each channel of x (N, S): (N, S, K), plainly."""
    named, found = split(head, parameters), []
    for c in range(head.site):
        location = named["locations"][c]
        for j in range(c):
            location = location + named["coefficients"][c, j] * x[:, j, None]
        at, scale = x[:, c, None], named["scales"][c]
        upper = torch.sigmoid((at + HALF_BIN - location) / scale)
        lower = torch.sigmoid((at - HALF_BIN - location) / scale)
        upper, lower = upper.masked_fill(at == 1, 1.0), lower.masked_fill(at == -1, 0.0)
        found.append(upper - lower)
    return torch.stack(found, 1)


@discrete
@given(seed=seeds)
def test_masses_are_differences_of_the_distribution_function(
    head: DiscretizedLogisticMixture, seed: int
) -> None:
    parameters, x = random((30, width_of(head)), seed), random_levels((30, head.site), seed + 1)
    mass = masses(head, parameters, x)
    weights = split(head, parameters)["log weights"].exp()
    joint = (weights[:, None] * mass.cumprod(1)).sum(-1)
    # A difference of numbers near 1 is exact to about 1e-16: where it is small, it tells little.
    clear = mass.amin((1, 2)) > 1e-6
    log_p = head.log_prob(parameters, x).cumsum(-1)
    assert torch.allclose(log_p[clear], joint[clear].log(), rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def plain_loss() -> Any:
    """The classic loss, with a branch for masses that underflow."""
    path = Path(__file__).parents[2] / "bench" / "plain_pixelcnn.py"
    spec = importlib.util.spec_from_file_location("plain_pixelcnn", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_discretized_mix_logistic_loss


def classic_layout(head: DiscretizedLogisticMixture, parameters: Tensor) -> Tensor:
    """Reorder parameters (N, P): the classic loss has its groups channel by channel."""
    groups = parameters.unflatten(-1, (-1, head.components))
    s = head.site
    order = [0]
    for c in range(s):
        order += [1 + c, 1 + s + c] + ([1 + 2 * s + c] if s == 3 else [])
    return groups[:, order].flatten(1)


@pytest.mark.parametrize("head", [h for h in DISCRETE if h.site in (1, 3)], ids=name)
@given(seed=seeds)
def test_the_classic_loss_is_the_same_where_it_is_exact(
    plain_loss: Any, head: DiscretizedLogisticMixture, seed: int
) -> None:
    n = 30
    parameters, x = random((n, width_of(head)), seed), random_levels((n, head.site), seed + 1)
    # Where no mass is so small that the classic loss takes the density in its place.
    clear = masses(head, parameters, x).amin((1, 2)) > 2e-5
    parameters, x = parameters[clear].requires_grad_(), x[clear]
    if not len(x):
        return
    as_images = classic_layout(head, parameters)[..., None, None]
    expected = plain_loss(as_images, x[..., None, None])
    loss = -head.log_prob(parameters, x).sum()
    assert torch.isclose(loss, expected, rtol=1e-8)
    # The loss is a sum over the images: their gradients compare them one by one. Softplus, which
    # the classic loss takes, neglects exp(-20).
    one, other = (torch.autograd.grad(v, parameters)[0] for v in (loss, expected))
    assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


@given(st.floats(-30.0, 30.0), st.floats(-7.0, 2.0), st.integers(1, 254))
def test_masses_far_in_the_tails_are_the_density_times_the_bin(
    location: float, log_scale: float, level: int
) -> None:
    head = DiscretizedLogisticMixture(1, 1)
    x, s = LEVELS[level], math.exp(log_scale)
    parameters = torch.tensor([[0.0, location, log_scale]], dtype=torch.float64)
    log_p = float(head.log_prob(parameters, x.view(1, 1)))
    # The integral of the density by Gauss-Legendre, in the log domain.
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(30))
    z = (x + HALF_BIN * nodes - location) / s
    log_density = functional.logsigmoid(z) + functional.logsigmoid(-z) - log_scale
    expected = torch.logsumexp(log_density + (HALF_BIN * weights).log(), 0)
    assert math.isclose(log_p, float(expected), rel_tol=1e-9, abs_tol=1e-9)


# draws


def test_gaussian_draws_follow_the_density(assert_uniform: Check) -> None:
    parameters = random((5000, 2), 0)
    x = draw_site(Gaussian(), parameters, seed=1)[:, 0]
    mean, log_sd = parameters.T
    assert_uniform(torch.special.ndtr((x - mean) / log_sd.exp()))


@pytest.mark.parametrize("components", [1, 4])
def test_mixture_draws_follow_the_density(assert_uniform: Check, components: int) -> None:
    parameters = random((5000, 3 * components), 0)
    x = draw_site(LogisticMixture(components), parameters, seed=1)[:, 0]
    assert_uniform(mixture_cdf(parameters, x))


@pytest.mark.parametrize("head", [Gaussian(), LogisticMixture(1)], ids=name)
def test_draws_without_a_choice_of_component_are_quantiles(head: Head) -> None:
    parameters = random((200, width_of(head)), 0)
    z = torch.linspace(-6, 6, 200, dtype=torch.float64)
    x = head.draw(parameters, parameters[:, :0], z[:, None].expand(-1, head.draws))
    location, scale = parameters[:, -2], parameters[:, -1].exp()
    cdf = torch.special.ndtr if isinstance(head, Gaussian) else torch.sigmoid
    assert torch.allclose(cdf((x - location) / scale), torch.special.ndtr(z), rtol=0, atol=1e-12)


def test_draws_from_one_mixture_follow_its_density(assert_uniform: Check) -> None:
    parameters = random((1, 12), 3).expand(5000, -1)
    x = draw_site(LogisticMixture(4), parameters, seed=1)[:, 0]
    assert_uniform(mixture_cdf(parameters, x))


@cache
def quantiles_of_draws(head: DiscretizedLogisticMixture) -> Tensor:
    """Draw 3000 sites x; return P(X_c < x_c | x_<c) plus a random part of P(x_c | x_<c), (N, S).

    Independent and uniform if x is drawn as the probabilities say.
    """
    parameters = random((3000, width_of(head)), 0)
    # Narrow components: what a channel shows tells the component of the next.
    scales = slice((1 + head.site) * head.components, (1 + 2 * head.site) * head.components)
    parameters[:, scales] -= 2
    x = draw_site(head, parameters, seed=1)
    quantiles = torch.empty_like(x)
    part = torch.rand(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
    for c in range(head.site):
        p = of_levels(head, parameters, x[:, :c]).exp()
        k = ((x[:, c] + 1) * 127.5).round().long()[:, None]
        own = p.gather(1, k)[:, 0]
        below = p.cumsum(1).gather(1, k)[:, 0] - own
        quantiles[:, c] = below + part[:, c] * own
    return quantiles


@pytest.mark.parametrize(
    "head",
    [*DISCRETE[:3], *(pytest.param(h, marks=pytest.mark.slow) for h in DISCRETE[3:])],
    ids=name,
)
def test_levels_drawn_follow_their_probabilities_given_the_earlier_channels(
    head: DiscretizedLogisticMixture, assert_uniform: Check
) -> None:
    for quantiles in quantiles_of_draws(head).T:
        assert_uniform(quantiles)


@pytest.mark.slow
@pytest.mark.parametrize("head", [h for h in DISCRETE if h.site > 1], ids=name)
def test_drawn_channels_depend_on_each_other_as_stated_alone(
    head: DiscretizedLogisticMixture,
) -> None:
    normal = torch.special.ndtri(quantiles_of_draws(head).clamp(1e-9, 1 - 1e-9))
    # What is left given the density is independent: correlations within 3.3 deviations of 0.
    correlations = torch.corrcoef(normal.T).fill_diagonal_(0)
    assert correlations.abs().max() < 3.3 / math.sqrt(len(normal))


def assert_frequencies(counts: Tensor, p: Tensor) -> None:
    """Chi-square test at a level of about 1 in 1,000; rare outcomes are joined."""
    n = counts.sum()
    common = p * n >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([p[common], p[~common].sum()[None]]) * n
    keep = expected > 1
    statistic = ((observed - expected)[keep].square() / expected[keep]).sum()
    df = int(keep.sum()) - 1
    # Wilson and Hilferty's approximation of the quantile.
    t = 2 / (9 * df)
    assert statistic < df * (1 - t + 3.09 * math.sqrt(t)) ** 3


@pytest.mark.parametrize("location", [-0.9, 0.0, 1.05])
def test_frequencies_of_the_levels_are_their_probabilities(location: float) -> None:
    head = DiscretizedLogisticMixture(2, 1)
    parameters = torch.tensor([[0.0, 0.7, location, 0.3, -4.0, -2.0]], dtype=torch.float64)
    x = draw_site(head, parameters.expand(20_000, -1), seed=1)[:, 0]
    counts = torch.bincount(((x + 1) * 127.5).round().long(), minlength=256)
    p = of_levels(head, parameters, parameters.new_empty(1, 0))[0].exp()
    assert_frequencies(counts.double(), p)


def test_frequencies_of_a_second_channel_are_its_probabilities_given_the_first() -> None:
    head = DiscretizedLogisticMixture(3, 3)
    # Components apart in the first channel: what it shows tells the component.
    parameters = random((1, width_of(head)), 4, 0.5)
    parameters[:, 3:6] = parameters.new_tensor([-0.6, 0.0, 0.6])
    parameters[:, 12:21] -= 2.5
    many = parameters.expand(20_000, -1)
    for level in (60, 128, 190):
        first = LEVELS[level].expand(len(many), 1)
        x = head.draw(many, first, random((len(many), 2), level))
        counts = torch.bincount(((x + 1) * 127.5).round().long(), minlength=256)
        p = of_levels(head, parameters, first[:1])[0].exp()
        assert_frequencies(counts.double(), p)


@discrete
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_draws_are_8_bit_levels(head: Head, dtype: torch.dtype) -> None:
    parameters = random((2000, width_of(head)), 0, 2.0).to(dtype)
    x = draw_site(head, parameters, seed=1)
    assert torch.isin(x, torch.arange(256, dtype=dtype) / 127.5 - 1).all()


@discrete
def test_both_ends_of_the_range_are_drawn(head: Head) -> None:
    x = draw_site(head, random((2000, width_of(head)), 0, 2.0), seed=1)
    assert (x == -1).any(0).all()
    assert (x == 1).any(0).all()


@every
def test_draws_are_a_function_of_the_random_numbers(head: Head) -> None:
    parameters = random((50, width_of(head)), 0)
    assert torch.equal(draw_site(head, parameters, 1), draw_site(head, parameters, 1))


@every
def test_draws_of_sites_do_not_depend_on_the_batch(head: Head) -> None:
    parameters, earlier = random((20, width_of(head)), 0), values_for(head, (20,))
    earlier, z = earlier[:, : head.site - 1], random((20, head.draws), 2)
    whole = head.draw(parameters, earlier, z)
    alone = [head.draw(parameters[i, None], earlier[i, None], z[i, None]) for i in range(20)]
    assert torch.allclose(whole, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", [LogisticMixture(3), DiscretizedLogisticMixture(3, 1)], ids=name)
def test_components_of_no_weight_are_not_drawn(head: Head) -> None:
    parameters = torch.zeros(2000, width_of(head), dtype=torch.float64)
    parameters[:, :3] = parameters.new_tensor([-800.0, 0.0, -800.0])
    parameters[:, 3:6] = parameters.new_tensor([0.8, 0.0, -0.8])
    parameters[:, 6:] = -5.0
    assert draw_site(head, parameters, seed=1).abs().max() < 0.2


# which head a configuration names


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_configurations_head_takes_its_contexts(
    likelihood: str, context: str, channels: int
) -> None:
    config = ModelConfig(
        shape=(channels, 4, 4),
        levels=(0.0,),
        annealing="none",
        context=context,
        likelihood=likelihood,
        components=3,
    )
    head = make_head(config)
    assert head.site == config.site
    assert head.discrete == (likelihood == "discretized-logistic-mixture")
    width = parameter_width(likelihood, 3, config.site)
    assert head.log_prob(torch.zeros(2, width), torch.zeros(2, head.site)).shape == (2, head.site)


def test_an_unknown_likelihood_has_no_head() -> None:
    with pytest.raises(ValueError, match="no likelihood"):
        make_head(ModelConfig(shape=(2,), levels=(1.0, 0.1)))
