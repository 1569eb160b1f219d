"""Contexts in reduced precision: close, and all that is computed from them exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import perturb
from arcsm_cli.randomness import Draws
from tests.models.images import (
    Make,
    case_inputs,
    noisy,
)

low_models = pytest.mark.parametrize(
    "settings",
    [
        {"context": "made", "shape": (3, 4, 4)},
        {"context": "pixelcnn", "shape": (1, 8, 8)},
        {"context": "pixelcnn", "shape": (3, 8, 8)},
    ],
    ids=lambda settings: f"{settings['context']} {settings['shape']}",
)


def single(random_model: Make, **settings: Any) -> tuple[Any, Tensor]:
    """A model in float32, with initialised weights, and examples."""
    model = noisy(random_model(filters=8, resnet_blocks=2, dropout=0.0, **settings)).float()
    x = case_inputs(model, 8).float()
    model.initialise(x)
    return model, x


@low_models
@torch.no_grad()
def test_reduced_precision_moves_contexts_by_a_few_percent(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    exact = model.contexts(x)
    model.low_precision = True
    lowered = model.contexts(x)
    assert lowered.dtype == torch.float32
    assert 0 < (lowered - exact).abs().max() < 0.05 * exact.abs().max()


@low_models
def test_derivatives_are_exact_for_contexts_of_reduced_precision(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    model.low_precision = True
    c, sigma = model.contexts(x).detach(), torch.tensor(0.3)
    _, ds = model.score_and_derivative(x, c, sigma)
    value = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model.score(value, c, sigma).sum(), value)
    assert (ds - expected).abs().max() < 1e-5 * expected.abs().max()


@low_models
@torch.no_grad()
def test_scores_of_given_contexts_are_the_same_in_reduced_precision(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    c, sigma = model.contexts(x), torch.tensor(0.3)
    exact = model.score_and_derivative(x, c, sigma)
    model.low_precision = True
    lowered = model.score_and_derivative(x, c, sigma)
    assert all(torch.equal(a, b) for a, b in zip(exact, lowered, strict=True))


@low_models
def test_gradients_of_reduced_precision_point_the_same_way(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    batch = perturb(model, x, torch.Generator().manual_seed(0))
    weights = list(model.parameters())
    directions = []
    for low in (False, True):
        model.low_precision = low
        found = torch.autograd.grad(csm(model, batch, Draws(torch.Generator())), weights)
        assert all(g.dtype == torch.float32 for g in found)
        directions.append(torch.cat([g.flatten() for g in found]))
    exact, lowered = directions
    assert torch.cosine_similarity(exact, lowered, dim=0) > 0.99


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "logistic-mixture", "discretized-logistic-mixture"]
)
@torch.no_grad()
def test_densities_of_given_contexts_are_the_same_in_reduced_precision(
    random_model: Make, monkeypatch: pytest.MonkeyPatch, context: str, likelihood: str
) -> None:
    width = {"gaussian": 2, "logistic-mixture": 6}.get(likelihood)
    model, x = single(
        random_model,
        shape=(3, 4, 4),
        context=context,
        likelihood=likelihood,
        components=2,
        context_width=width or (20 if context == "pixelcnn" else 6),
        annealing="none",
        levels=(0.0,),
        data_shift=(0.5,),
        data_scale=(0.5,),
    )
    x = (x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    model.low_precision = True
    lowered, contexts = model.log_prob(x), model.contexts(x)
    model.low_precision = False
    assert not torch.equal(lowered, model.log_prob(x))
    monkeypatch.setattr(model, "contexts", lambda _: contexts)
    assert torch.equal(lowered, model.log_prob(x))
