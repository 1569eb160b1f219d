"""Heads: each is a density, and its gradients are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.heads import (
    Gaussian,
    Head,
    LogisticMixture,
    make_head,
)
from arcsm_cli.registry import LIKELIHOODS
from tests.models.heads import (
    BOUNDS,
    DISCRETE,
    LEVELS,
    continuous,
    discrete,
    every,
    mixture_cdf,
    name,
    random,
    seeds,
    values_for,
    width_of,
)


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
