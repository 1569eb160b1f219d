"""Networks that are fitted to the first batch before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Dataset, as_float
from arcsm_cli.models.pixelcnn import PixelCNN
from arcsm_cli.training.batches import HeldBatches
from arcsm_cli.training.loop import train
from arcsm_cli.training.state import TrainState
from tests.training.runs import DISCRETE, MIXTURE, PIXELCNN, equal

Make = Callable[..., Any]


def weights(state: TrainState) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state.model.named_parameters()}


@pytest.fixture
def initialised(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Examples that context networks were fitted to."""
    seen: list[Tensor] = []
    real = PixelCNN.initialise

    def initialise(self: PixelCNN, x: Tensor) -> bool:
        seen.append(Batch.of(x).x.clone())
        return real(self, x)

    monkeypatch.setattr(PixelCNN, "initialise", initialise)
    return seen


@pytest.mark.slow
def test_a_fresh_run_is_fitted_once_and_a_resumed_one_never(
    run: Make, initialised: list[Tensor]
) -> None:
    fitted = run(DISCRETE, objective="mle")
    fitted.start(2)
    assert len(initialised) == 1
    fitted.start()
    assert len(initialised) == 1


@pytest.mark.parametrize(
    "choices",
    [pytest.param(PIXELCNN, id="csm"), pytest.param(DISCRETE, id="mle", marks=pytest.mark.slow)],
)
def test_weights_are_fitted_to_the_whole_first_noisy_batch(
    fresh: Make, examples: Make, watcher: Make, spy: Make, initialised: list[Tensor], choices: Any
) -> None:
    objective = "mle" if "likelihood" in choices else "csm"
    seen = spy(objective)
    state = fresh(choices, objective=objective, grad_accumulation=2)
    train(state, *examples(choices), watcher())
    batch = torch.cat([batch.context_input.x for batch, _ in seen[:2]])
    assert torch.equal(initialised[0], batch)


def test_fitted_weights_start_with_normalised_contexts(fresh: Make, examples: Make) -> None:
    state = fresh(DISCRETE)
    x = state.model.sort(examples(DISCRETE)[0].take(torch.arange(40)))
    state.model.initialise(x)
    state.model.eval()
    with torch.no_grad():
        contexts = state.model.contexts(x).flatten(0, 1)
    assert torch.allclose(contexts.mean(0), torch.zeros(contexts.shape[1]), atol=1e-4)
    assert torch.allclose(contexts.std(0, correction=0), torch.ones(contexts.shape[1]), atol=1e-3)


def test_the_average_starts_from_the_fitted_weights(
    fresh: Make, examples: Make, watcher: Make
) -> None:
    start = fresh(DISCRETE, objective="mle")
    before = weights(start)
    data, valid = examples(DISCRETE)
    train(start, data, valid, seen := watcher(1))
    # Batch 0 of the run again, outside of it.
    first = fresh(DISCRETE, objective="mle")
    batch = as_float(HeldBatches(data, 8, 0).at(0).x)
    assert first.model.initialise(first.model.sort(batch))
    first.begin_average()
    assert equal(first.average, weights(first))
    assert not equal(first.average, before)
    for name, average in start.average.items():  # which the first step leaves a tenth of
        expected = 0.1 * first.average[name] + 0.9 * seen.weights[0][name]
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_anything_to_fit_stays_as_it_is(fresh: Make, data: Dataset) -> None:
    state = fresh(MIXTURE)
    before = weights(state)
    assert not state.model.initialise(state.model.sort(data.values[:8]))
    assert equal(weights(state), before)
