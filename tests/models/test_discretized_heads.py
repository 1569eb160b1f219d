"""Probabilities of 8-bit levels: they sum to one and are masses of a distribution function."""

from __future__ import annotations

import importlib.util
import math
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

from arcsm_cli.models.heads import (
    DiscretizedLogisticMixture,
    Head,
)
from tests.models.heads import (
    BOUNDS,
    DISCRETE,
    HALF_BIN,
    LEVELS,
    discrete,
    draw_site,
    name,
    of_levels,
    random,
    random_levels,
    seeds,
    values_for,
    width_of,
)


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
