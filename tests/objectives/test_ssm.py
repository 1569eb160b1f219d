"""Sliced score matching of AR-CSMs against what it estimates, over all projections."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.comparisons.fields import ConditionalField
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.made import MADE
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.objectives.sliced import sm
from arcsm_cli.objectives.ssm import ssm
from arcsm_cli.randomness import Draws

Make = Callable[..., Any]

NOISY = pytest.mark.parametrize(
    "kind",
    [
        {"levels": (3.0, 0.1)},
        {"levels": (2.0, 0.1), "frames": "contexts"},
        {"levels": (0.5,), "annealing": "none"},
        {"levels": (0.0,), "annealing": "none"},
        {"levels": (1.0, 0.4, 0.1), "annealing": "staged"},
    ],
    ids=str,
)


class Chosen(Draws):
    """The same signs for all rows."""

    def __init__(self, row: tuple[float, ...]) -> None:
        self.row = row

    def signs(self, like: Tensor) -> Tensor:
        return torch.tensor(self.row).to(like).expand_as(like)


def projections(dimensions: int) -> Iterator[Chosen]:
    return map(Chosen, itertools.product((-1.0, 1.0), repeat=dimensions))


def batch_of(model: ARCSM, rows: int = 4, **options: Any) -> NoisyBatch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, model.config.dimensions, generator=generator, dtype=torch.float64)
    return perturb(model, x, generator, **options)


def gradient(model: ARCSM, loss: Tensor) -> Tensor:
    weights = [w for w in model.parameters() if w.requires_grad]
    parts = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(parts, weights, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


@NOISY
def test_over_all_projections_loss_and_gradient_are_those_of_csm(
    random_model: Make, kind: dict[str, Any]
) -> None:
    model = random_model(**kind)
    batch = batch_of(model, draws=2)
    losses = [ssm(model, batch, random) for random in projections(3)]
    found, expected = torch.stack(losses).mean(), csm(model, batch, Draws(torch.Generator()))
    assert torch.allclose(found, expected, rtol=1e-10)
    assert torch.stack(losses).std() > 0.01
    assert torch.allclose(gradient(model, found), gradient(model, expected), rtol=1e-8, atol=1e-10)


def test_without_noise_it_is_exact_score_matching_of_the_conditional_scores(
    random_model: Make,
) -> None:
    model = random_model(levels=(0.0,), annealing="none")
    batch = batch_of(model)
    field, x = ConditionalField(model.config).double(), batch.context_input.x.requires_grad_()
    field.model.load_state_dict(model.state_dict())
    found = torch.stack([ssm(model, batch, random) for random in projections(3)]).mean()
    assert torch.allclose(found, sm(field(x), x).mean(), rtol=1e-10)


@pytest.mark.parametrize("kind", [{}, {"context": "pixelcnn", "filters": 3, "resnet_blocks": 1}])
def test_its_gradient_is_the_slope_of_the_loss(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(shape=(1, 4, 4), **kind)
    batch, random = batch_of(model, 2), Chosen((1.0, -1.0) * 8)
    weights = list(model.parameters())
    direction = [torch.randn_like(w) for w in weights]
    slope = gradient(model, ssm(model, batch, random)) @ torch.cat([d.flatten() for d in direction])
    values = []
    for step in (-1e-6, 1e-6):
        with torch.no_grad():
            torch._foreach_add_(weights, direction, alpha=step)
            values.append(float(ssm(model, batch, random).detach()))
            torch._foreach_sub_(weights, direction, alpha=step)
    assert float(slope.detach()) == pytest.approx((values[1] - values[0]) / 2e-6, rel=1e-4)


def test_layers_that_are_computed_in_blocks_are_computed_plainly(random_model: Make) -> None:
    model = random_model(shape=(2,), hidden=(500, 500))
    assert isinstance(model.stage().context, MADE)
    assert max(len(layer.blocks) for layer in model.stage().context.hidden) > 1
    batch = batch_of(model)
    found = torch.stack([ssm(model, batch, random) for random in projections(2)]).mean()
    expected = csm(model, batch, Draws(torch.Generator()))
    assert torch.allclose(gradient(model, found), gradient(model, expected), rtol=1e-7, atol=1e-9)
