"""csm's control variate changes how much the gradient varies, and nothing that it is on average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.levels import near_scales
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.randomness import Draws

Make = Callable[..., ARCSM]
RANDOM = Draws(torch.Generator())  # of which neither objective draws


def noisy(x: Tensor, sigma: float, generator: torch.Generator) -> NoisyBatch:
    noise = torch.randn(1, *x.shape, generator=generator, dtype=x.dtype)
    return NoisyBatch(Batch.of(x), x + sigma * noise, noise, torch.tensor(sigma, dtype=x.dtype))


@pytest.mark.parametrize("frames", ["none", "linear"])
def test_shares_become_those_of_the_posterior_variance(random_model: Make, frames: str) -> None:
    model = random_model(frames=frames)
    model.shares = PosteriorShares(3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    seen = []
    for _ in range(60):
        batch = noisy(x, 0.4, generator)
        with torch.no_grad():
            c = model.contexts(x)
            _, ds = model.score_and_derivative(batch.score_input, c[None], batch.sigma)
            csm(model, batch, RANDOM)
        model.shares.take_in(lambda t: t)
        seen.append((1 + 0.16 * ds).clamp(0, 1).mean((0, 1)))
    scale = model.framed(c)[1].scale.expand(64, 3)
    found = model.shares.coefficient(torch.full_like(scale, 0.4), scale)
    r = (2 - 2 * found) / (2 - found)
    if frames == "none":  # with frames, the levels of one dimension are of several bins
        assert torch.allclose(r[0], torch.stack(seen).mean(0), atol=0.02)
    assert (r.mean(0) - torch.stack(seen).mean(0)).abs().max() < 0.05


def test_shares_do_not_depend_on_the_parts_that_a_batch_comes_in(random_model: Make) -> None:
    generator = torch.Generator().manual_seed(0)
    sigma, slope = torch.rand(2, 8, 3, generator=generator), -torch.rand(8, 3, generator=generator)
    whole, parts = PosteriorShares(3), PosteriorShares(3)
    whole.note(sigma[0], sigma[1], slope)
    before = parts.coefficient(sigma[0], sigma[1])
    for rows in (slice(0, 3), slice(3, 8)):
        parts.note(sigma[0, rows], sigma[1, rows], slope[rows])
        assert torch.equal(parts.coefficient(sigma[0], sigma[1]), before)
    for shares in (whole, parts):
        shares.take_in(lambda t: t)
    assert torch.allclose(whole.share, parts.share, rtol=1e-6)
    assert not torch.equal(parts.coefficient(sigma[0], sigma[1]), before)


def test_models_without_shares_have_the_exact_form(random_model: Make) -> None:
    model = random_model()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    batch = noisy(x, 0.5, torch.Generator().manual_seed(1))
    c = model.contexts(x)
    s, ds = model.score_and_derivative(batch.score_input, c[None], batch.sigma)
    assert torch.equal(csm(model, batch, RANDOM), (0.25 * (s.square() / 2 + ds)).sum(-1).mean())


def test_the_coefficient_lies_between_csm_and_dsm(random_model: Make) -> None:
    sigma = torch.logspace(-6, 6, 60)[:, None].expand(-1, 3)
    scale = torch.tensor([1e-3, 1.0, 1e3])
    mix: Any = PosteriorShares(3).coefficient(sigma, scale)
    assert mix.min() >= 0
    assert mix.max() <= 1
    assert (mix.diff(dim=0) >= 0).all()


def test_levels_near_scales_keep_expectations(random_model: Make) -> None:
    model = random_model(frames="linear", levels=(3.0, 0.1))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    batch = perturb(model, x, generator)
    with torch.no_grad():
        moved, _, weight = near_scales(model, batch)
    for f in (torch.ones_like, torch.log, torch.square):
        assert torch.allclose((weight * f(moved.sigma)).mean(), f(batch.sigma).mean(), rtol=0.03)
    assert torch.allclose(moved.score_input - moved.sigma * moved.noise, x[None], atol=1e-9)
    assert moved.sigma.min() >= 0.1 - 1e-9
    assert moved.sigma.max() <= 3.0 + 1e-9
    assert weight.max() <= 2.5 + 1e-9
