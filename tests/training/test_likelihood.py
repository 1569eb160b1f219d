"""Training by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arcsm_cli.data.densities import log_density
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from tests.training.runs import DISCRETE

Make = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.parametrize("likelihood", ["gaussian", "logistic-mixture"])
def test_a_short_training_finds_the_density_of_a_gaussian(
    settings: Make, watcher: Make, likelihood: str, sigma: float
) -> None:
    examples, held_out = load_training("gaussian:2", DataOptions())[:2]
    choices = Choices(annealing="none", sigma_min=sigma, hidden=(32,), likelihood=likelihood)
    values = {"batch_size": 256, "objective": "mle", "ema": 0.97, "validate_every": 10**6}
    state = fresh_state(model_config(examples, choices), settings(steps=200, **values), "cpu")
    seen = watcher()
    train(state, examples, held_out, seen)
    model = state.averaged_model()
    points = held_out.limit(2000).values
    points = points + sigma * torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    exact = log_density("gaussian:2", points, sigma)
    with torch.no_grad():
        found = log_likelihood(model, model.sort(points)).sum(1)
    # The mean difference is the Kullback-Leibler divergence, 0 at the very density.
    assert float((exact - found).mean()) < (0.01 if likelihood == "gaussian" else 0.03)
    assert float((exact - found).abs().mean()) < (0.1 if likelihood == "gaussian" else 0.2)
    # And the loss is that of the training: nats a dimension.
    assert sum(seen.losses[-50:]) / 50 == pytest.approx(-float(exact.mean()) / 2, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "logistic-mixture", "discretized-logistic-mixture"]
)
def test_training_by_likelihood_lowers_the_loss_of_images(
    fresh: Make, examples: Make, watcher: Make, likelihood: str
) -> None:
    choices = {**DISCRETE, "likelihood": likelihood, "dropout": 0.0}
    state = fresh(choices, objective="mle", steps=30, ema=0.8, validate_every=5)
    train(state, *examples(choices), watcher())
    curve = state.history["valid_loss"]
    assert curve[-1] < curve[0] - 0.3


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_validation_loss_is_the_likelihood_of_the_averaged_weights(
    fresh: Make, examples: Make, watcher: Make, parts: int
) -> None:
    state = fresh(DISCRETE, objective="mle", grad_accumulation=parts)
    data, valid = examples(DISCRETE)
    train(state, data, valid, watcher())
    model = state.averaged_model()
    with torch.no_grad():
        log_p = model.log_prob(model.sort(valid.take(torch.arange(20))))  # type: ignore[operator]
    # 20 examples in batches of 8: the last one is smaller.
    assert state.history["valid_loss"][-1] == pytest.approx(-float(log_p.mean()), rel=1e-5)
