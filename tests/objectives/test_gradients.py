"""What the objectives minimise, by quadrature in double precision.

The tests put a rule's nodes in the place of a batch, and its weights on the summands, so that the
batch mean becomes an expectation that is exact to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.dsm import dsm
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws

Make = Callable[..., ARCSM]
CORRELATION = 0.6


class Weighted:
    """A model whose summands 1/2 s^2 and s' count ``weight`` times in a mean over the nodes."""

    def __init__(self, model: ARCSM, weight: Tensor) -> None:
        self.model, self.weight = model, weight
        self.contexts, self.framed, self.shares = model.contexts, model.framed, model.shares
        self.config, self.levels = model.config, model.levels

    def score(self, *arguments: Any) -> Tensor:
        return self.model.score(*arguments) * self.weight.sqrt()

    def score_and_derivative(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        s, ds = self.model.score_and_derivative(*arguments)
        return s * self.weight.sqrt(), ds * self.weight


def normal_rule() -> tuple[Tensor, Tensor]:
    """Nodes and weights of E f(X), X standard normal: trapezoids, exact for smooth f."""
    nodes = torch.linspace(-8.5, 8.5, 171, dtype=torch.float64)
    weights = torch.exp(-nodes.square() / 2)
    return nodes, weights / weights.sum()


def planar_rule() -> tuple[Tensor, Tensor]:
    """Nodes (N, 2) and weights (N,) of a correlated Gaussian of unit variances."""
    u, w = normal_rule()
    first, innovation = torch.meshgrid(u, u, indexing="ij")
    second = CORRELATION * first + (1 - CORRELATION**2) ** 0.5 * innovation
    return torch.stack([first, second], -1).view(-1, 2), torch.outer(w, w).flatten()


def gaussian_score(x: Tensor) -> Tensor:
    """d/dx_d log p(x_d | x_<d) of that Gaussian."""
    second = -(x[:, 1] - CORRELATION * x[:, 0]) / (1 - CORRELATION**2)
    return torch.stack([-x[:, 0], second], 1)


RANDOM = Draws(torch.Generator())  # of which neither objective draws


def gradient(loss: Tensor, model: ARCSM) -> Tensor:
    weights = [p for p in model.parameters() if p.requires_grad]
    pairs = zip(torch.autograd.grad(loss, weights, allow_unused=True), weights, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def assert_equal(one: Tensor, other: Tensor) -> None:
    assert one.abs().max() > 1e-3
    assert (one - other).abs().max() < 1e-9 * one.abs().max()


def without_noise(x: Tensor, sigma: float = 0.0) -> NoisyBatch:
    level = torch.tensor(sigma, dtype=x.dtype)
    return NoisyBatch(x, x[None], torch.zeros_like(x)[None], level)


def test_csm_has_the_gradient_of_the_fisher_divergence_in_one_dimension(random_model: Make) -> None:
    model = random_model(shape=(1,), annealing="none", levels=(0.0,))
    nodes, weight = normal_rule()
    x, weight = nodes[:, None], weight[:, None]
    found = gradient(csm(Weighted(model, len(x) * weight), without_noise(x), RANDOM), model)  # type: ignore[arg-type]
    s = model.score(x, model.contexts(x), torch.tensor(0.0).double())
    assert_equal(found, gradient((weight * (s + x).square()).sum() / 2, model))


def test_csm_has_the_gradient_of_the_composite_divergence_of_a_correlated_gaussian(
    random_model: Make,
) -> None:
    model = random_model(annealing="none", levels=(0.0,), shape=(2,), hidden=(5,))
    x, weight = planar_rule()
    weight = weight[:, None]
    found = gradient(csm(Weighted(model, len(x) * weight), without_noise(x), RANDOM), model)  # type: ignore[arg-type]
    s = model.score(x, model.contexts(x), torch.tensor(0.0).double())
    expected = (weight * (s - gaussian_score(x)).square()).sum() / 2
    assert_equal(found, gradient(expected, model))


def test_csm_has_the_weighted_gradient_under_noise(random_model: Make) -> None:
    # Data N(0, 0.75^2) plus noise of 0.66..: the law of the score input is standard normal.
    sigma = (1 - 0.75**2) ** 0.5
    model = random_model(shape=(1,), levels=(3.0, sigma), sd=(0.75,))
    nodes, weight = normal_rule()
    x, weight = nodes[:, None], weight[:, None]
    found = gradient(csm(Weighted(model, len(x) * weight), without_noise(x, sigma), RANDOM), model)  # type: ignore[arg-type]
    s = model.score(x, model.contexts(x), torch.tensor(sigma, dtype=x.dtype))
    assert_equal(found, gradient(sigma**2 * (weight * (s + x).square()).sum() / 2, model))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("frames", ["none", "linear"])
def test_csm_has_the_same_expected_gradient_with_its_variate_and_as_dsm(
    random_model: Make, frames: str, sigma: float
) -> None:
    scales: dict[str, Any] = {"mean": (0.2, -0.1), "sd": (0.5, 2.0)}
    model = random_model(shape=(2,), annealing="none", levels=(sigma,), frames=frames, **scales)
    nodes, weight = normal_rule()
    data = torch.tensor([[0.3, -1.0], [-0.7, 0.4], [1.2, 2.0]], dtype=torch.float64)
    # Each summand belongs to one dimension: one rule serves both at once.
    noise = nodes[:, None, None].expand(-1, 3, 2)
    weight = (len(nodes) * weight)[:, None, None]
    level = torch.tensor(sigma, dtype=torch.float64)
    batch = NoisyBatch(data, data + sigma * noise, noise, level)
    weighted = Weighted(model, weight)
    by_csm = gradient(csm(weighted, batch, RANDOM), model)  # type: ignore[arg-type]
    batch = batch._replace(noise=weight.sqrt() * noise)
    assert_equal(by_csm, gradient(dsm(weighted, batch, RANDOM), model))  # type: ignore[arg-type]
    weighted.shares = PosteriorShares(2)
    assert_equal(by_csm, gradient(csm(weighted, batch, RANDOM), model))  # type: ignore[arg-type]


def test_csm_vanishes_in_gradient_at_the_true_score(gaussian_model: Make) -> None:
    model = gaussian_model((0.0,), (0.75,), levels=(3.0, 0.5))
    total = (0.75**2 + 0.5**2) ** 0.5
    nodes, weight = normal_rule()
    x, weight = total * nodes[:, None], weight[:, None]
    found = gradient(csm(Weighted(model, len(x) * weight), without_noise(x, 0.5), RANDOM), model)  # type: ignore[arg-type]
    assert found.abs().max() < 1e-12


@pytest.mark.parametrize("objective", [csm, dsm])
def test_a_loss_is_the_mean_over_draws_and_examples(
    random_model: Make, objective: Callable[..., Tensor]
) -> None:
    model = random_model()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    sigma = 0.1 + torch.rand(2, 4, 3, generator=generator, dtype=torch.float64)
    batch = NoisyBatch(x, x + sigma * noise, noise, sigma)
    single = [
        objective(
            model,
            NoisyBatch(
                x[b : b + 1],
                batch.score_input[k, b][None, None],
                noise[k, b][None, None],
                sigma[k, b][None, None],
            ),
            RANDOM,
        )
        for k in range(2)
        for b in range(4)
    ]
    assert torch.allclose(objective(model, batch, RANDOM), torch.stack(single).mean(), rtol=1e-12)


@pytest.mark.parametrize("objective", [csm, dsm])
def test_a_loss_trains_one_stage_alone(
    random_model: Make, objective: Callable[..., Tensor]
) -> None:
    model = random_model(annealing="staged", levels=(1.0, 0.4, 0.1))
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    batch = NoisyBatch(x, x[None], x[None], torch.tensor(0.4).double(), level=1)
    objective(model, batch, RANDOM).backward()  # type: ignore[no-untyped-call]
    touched = {n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"1"}
