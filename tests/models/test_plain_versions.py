"""Each network, sampler and objective that is computed cleverly, beside a version of a few lines.

PixelCNN++ has its plain network in `bench/plain_pixelcnn.py`, which `test_pixelcnn` compares with;
the triangular encoder of VAEs has `plain_walk`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models import masked, score
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.models.made import MADE
from arcsm_cli.models.masked import MaskedLinear
from arcsm_cli.models.quadrature import log_density
from arcsm_cli.models.score import ConditionalScoreNetwork
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.dsm import dsm
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws, SampleNoise
from arcsm_cli.sampling.draw import Sampler, sample
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.ode import ProbabilityFlow

Make = Callable[..., Any]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_random_weights(module: Any) -> Any:
    """The module in float64, with weights of order 1, also where a mask hides them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_()
    return module


# Networks


def plain_masked(layer: MaskedLinear, x: Tensor, mask: Tensor) -> Tensor:
    return x @ (layer.weight * mask).T + layer.bias


@pytest.mark.parametrize("strict", [False, True])
def test_a_masked_layer_uses_inputs_up_to_its_degree(
    strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1)
    below, above = (torch.tensor(degrees) for degrees in ([1, 1, 2, 4, 5], [1, 2, 2, 3, 4, 4, 5]))
    layer, x = with_random_weights(MaskedLinear(below, above, strict=strict)), normal(6, 5)
    mask = (below < above[:, None]) if strict else (below <= above[:, None])
    assert torch.allclose(layer(x), plain_masked(layer, x, mask), rtol=1e-12, atol=1e-12)


def plain_made(made: MADE, x: Tensor) -> Tensor:
    h, (*degrees, last) = x, made.degrees
    for i, (layer, below, above) in enumerate(
        zip(made.hidden, degrees, made.degrees[1:], strict=True)
    ):
        y = functional.silu(plain_masked(layer, h, below <= above[:, None]))  # type: ignore[arg-type]
        h = h + y if made.residual and i > 0 else y
    outputs = torch.arange(1, made.dimensions + 1).repeat_interleave(made.width)
    return plain_masked(made.output, h, last < outputs[:, None]).view(len(x), -1, made.width)


@torch.no_grad()
def test_mades_contexts_are_a_masked_perceptrons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1)
    made, x = with_random_weights(MADE(6, 3, (11, 11), residual=True)), normal(5, 6)
    expected = plain_made(made, x)
    assert torch.allclose(made(x), expected, rtol=1e-12, atol=1e-12)
    walk = made.incremental(torch.empty(5, 0))
    for d, column in enumerate(x.T):
        assert torch.allclose(walk.contexts(), expected[:, d], rtol=1e-12, atol=1e-12)
        walk.append(column)


def plain_score(net: ConditionalScoreNetwork, x: Tensor, c: Tensor, log_sigma: Tensor) -> Tensor:
    low, high = net.log_sigma or (0.0, 1.0)
    phase = torch.pi * (log_sigma - low) / (high - low)
    levels = [torch.cos(k * phase) for k in range(1, net.NOISE_FEATURES + 1)]
    inputs = torch.cat([c, torch.stack(levels, 1)], 1)
    h = torch.tanh(net.first(inputs) + x[:, None] * net.first_x)
    for layer in net.hidden:
        h = torch.tanh(layer(h))
    return net.out(h)[:, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("fused", [True, False])
def test_the_score_network_is_a_perceptron_and_its_tangent_the_derivative(
    fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "_runs_fused", lambda x: fused)
    net = with_random_weights(ConditionalScoreNetwork(3, (7, 5), (-3.0, 1.0)))
    x, c, log_sigma = normal(9).requires_grad_(), normal(9, 3), normal(9, seed=1) - 1
    expected = plain_score(net, x, c, log_sigma)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    found = net.value_and_tangent(x, c, log_sigma)
    assert torch.allclose(found[0], expected, rtol=1e-10, atol=1e-10)
    assert torch.allclose(found[1], slope, rtol=1e-10, atol=1e-10)


# Quadrature and samplers


def plain_log_density(rows: Any, x: Tensor) -> Tensor:
    """The score summed up on one grid that spans whatever the weights allow, by trapezoids."""
    reach = float((rows.reach + 12 * rows.tail).max())
    u = torch.linspace(-reach, reach, 100_001, dtype=torch.float64)
    grid = float(torch.as_tensor(rows.mean).mean()) + u.expand(len(x), -1)
    log_p = torch.cumulative_trapezoid(rows(grid), grid)
    log_p = log_p - (log_p.logsumexp(1, keepdim=True) + (grid[0, 1] - grid[0, 0]).log())
    at = torch.searchsorted(grid[:, 1:].contiguous(), x[:, None]).clamp(1, log_p.shape[1] - 1)
    left, right = grid[:, 1:].gather(1, at - 1), grid[:, 1:].gather(1, at)
    share = (x[:, None] - left) / (right - left)
    return torch.lerp(log_p.gather(1, at - 1), log_p.gather(1, at), share)[:, 0]


@torch.no_grad()
def test_densities_are_the_integral_of_the_score(random_model: Make) -> None:
    model = random_model(shape=(4,), scale=2.0).float()
    x = model.sort(sample(model, Grid(0.1), SampleNoise(0, range(3)))).double()
    model.double()
    rows = ConditionalModel(model).of_examples(x).at(0.1)
    found = log_density(rows, x.flatten(), points=1024)
    assert torch.allclose(found, plain_log_density(rows, x.flatten()), rtol=0, atol=1e-3)


def plain_flow(rows: Any, sigmas: list[float], x: Tensor) -> Tensor:
    """Heun's method for dx/dsigma = -sigma s(x; sigma)."""
    for now, after in itertools.pairwise(sigmas):
        slope = -now * rows.at(now)(x)
        trial = x + (after - now) * slope
        x = x + (after - now) * (slope - after * rows.at(after)(trial)) / 2
    return x


@torch.no_grad()
def test_the_flow_is_followed_by_heuns_method(exact_rows: Make) -> None:
    rows, x = exact_rows(20), 3 * normal(20)
    flow = ProbabilityFlow(3.0, 0.1, steps=9)
    expected = plain_flow(rows, flow.sigmas(), x)
    assert torch.allclose(flow.follow(rows, x.clone()), expected, rtol=1e-12, atol=1e-12)


def plain_samples(model: Any, sampler: Sampler, z: Tensor) -> Tensor:
    """One full pass for each value; z is (B, D, draws)."""
    x = z.new_zeros(z.shape[:2])
    for d in range(x.shape[1]):
        every = ConditionalModel(model).of_examples(x)
        x[:, d] = sampler(every.rows(slice(d, None, x.shape[1])), z[:, d])
    return x


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@torch.no_grad()
def test_samples_are_drawn_one_value_after_another(random_model: Make, context: str) -> None:
    model = random_model(shape=(1, 4, 4), context=context, filters=3, resnet_blocks=1).float()
    flow = ProbabilityFlow.for_model(model)
    found = model.sort(sample(model, flow, SampleNoise(5, range(3))))
    expected = plain_samples(model, flow, SampleNoise(5, range(3)).normal(16, 1))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


# Objectives


def test_csm_with_its_control_variate_lies_between_csm_and_dsm(random_model: Make) -> None:
    model, random = random_model(levels=(2.0, 0.1)), Draws(torch.Generator())
    x, noise, sigma = normal(6, 3), normal(1, 6, 3, seed=1), 0.3 + normal(1, 6, 3, seed=2).square()
    batch = NoisyBatch(Batch.of(x), x + sigma * noise, noise, sigma)
    s = model.score(batch.score_input, model.contexts(x)[None], sigma)
    leaf = batch.score_input.clone().requires_grad_()
    (ds,) = torch.autograd.grad(model.score(leaf, model.contexts(x)[None], sigma).sum(), leaf)
    exact = sigma**2 * (s**2 / 2 + ds)
    denoising = (sigma * s + noise) ** 2 / 2
    assert torch.allclose(csm(model, batch, random), exact.sum(-1).mean())
    assert torch.allclose(dsm(model, batch, random), denoising.sum(-1).mean())
    model.shares = PosteriorShares(3)
    scale = model.framed(model.contexts(x)[None])[1].scale.detach()
    mix = model.shares.coefficient(sigma, scale)
    expected = (1 - mix) * exact + mix * (denoising - noise**2 / 2)
    assert torch.allclose(csm(model, batch, random), expected.sum(-1).mean())
