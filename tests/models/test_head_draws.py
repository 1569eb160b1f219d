"""Draws of heads follow their densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.heads import (
    DiscretizedLogisticMixture,
    Gaussian,
    Head,
    LogisticMixture,
)
from tests.models.heads import (
    DISCRETE,
    LEVELS,
    discrete,
    draw_site,
    every,
    mixture_cdf,
    name,
    of_levels,
    random,
    values_for,
    width_of,
)

Check = Callable[[Tensor], None]


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
