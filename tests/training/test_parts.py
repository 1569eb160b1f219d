"""Batches in parts, dropout and compiled steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.training.loop import train, validation_loss
from arcsm_cli.training.state import TrainState
from tests.training.runs import DISCRETE, MIXTURE, SCORES

Make = Callable[..., Any]

KINDS = [
    pytest.param(SCORES, {"objective": "csm"}, id="csm"),
    pytest.param(SCORES, {"objective": "dsm", "draws": 3}, id="dsm"),
    pytest.param(MIXTURE, {"objective": "mle"}, id="mle"),
    pytest.param({**DISCRETE, "dropout": 0.0}, {"objective": "mle"}, id="pixelcnn"),
]
of_every_kind = pytest.mark.parametrize(("choices", "values"), KINDS)


def gradients(state: TrainState) -> dict[str, Tensor]:
    """Those of the last step."""
    return {k: p.grad for k, p in state.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("parts", [3, 8])
@of_every_kind
def test_parts_have_the_gradient_of_the_whole_batch(
    fresh: Make, examples: Make, watcher: Make, choices: Any, values: Any, parts: int
) -> None:
    once = {"steps": 1, "clip": 0.0, **values}
    whole, split = fresh(choices, **once), fresh(choices, grad_accumulation=parts, **once)
    seen = [watcher() for _ in range(2)]
    for state, watched in zip((whole, split), seen, strict=True):
        train(state, *examples(choices), watched)
    assert seen[1].losses == pytest.approx(seen[0].losses, rel=1e-5)
    expected, found = gradients(whole), gradients(split)
    assert expected.keys() == found.keys()
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * largest)


@of_every_kind
def test_parts_see_the_noise_of_the_whole_batch(
    fresh: Make, examples: Make, watcher: Make, spy: Make, choices: Any, values: Any
) -> None:
    seen = spy(values["objective"])
    for parts in (1, 3):
        train(
            fresh(choices, steps=1, grad_accumulation=parts, **values),
            *examples(choices),
            watcher(),
        )
    (whole, _), *rest = seen
    assert [batch.context_input.size for batch, _ in rest] == [3, 3, 2]
    inputs = torch.cat([batch.context_input.x for batch, _ in rest])
    assert torch.equal(inputs, whole.context_input.x)
    for name, axis in (("score_input", 1), ("noise", 1)):
        together = torch.cat([getattr(batch, name) for batch, _ in rest], axis)
        assert torch.equal(together, getattr(whole, name))
    levels = [batch.sigma.expand_as(batch.noise) for batch, _ in rest]
    assert torch.equal(torch.cat(levels, 1), whole.sigma.expand_as(whole.noise))


def test_no_part_is_empty(fresh: Make, examples: Make, watcher: Make, spy: Make) -> None:
    seen = spy("mle")
    state = fresh(MIXTURE, objective="mle", steps=1, grad_accumulation=100)
    train(state, *examples(MIXTURE), watcher())
    assert [batch.context_input.size for batch, _ in seen] == [1] * 8


# Dropout


def test_dropout_changes_training_alone(fresh: Make, examples: Make, watcher: Make) -> None:
    without, dropped = watcher(), watcher()
    once = {"objective": "mle", "steps": 1}
    states = [fresh({**DISCRETE, "dropout": p}, **once) for p in (0.0, 0.5)]
    for state, seen in zip(states, (without, dropped), strict=True):
        train(state, *examples(DISCRETE), seen)
    assert dropped.losses != without.losses
    held_out = examples(DISCRETE)[1]
    states[1].average = states[0].average
    losses = [validation_loss(state, held_out, 0) for state in states]
    assert losses[0] == losses[1]


def test_every_step_and_seed_drops_others(
    fresh: Make, spy: Make, examples: Make, watcher: Make
) -> None:
    choices = {**DISCRETE, "dropout": 0.5}
    pixels = torch.full((40, 1, 4, 4), 100, dtype=torch.uint8)
    seen = spy("mle")
    for seed in (0, 1):
        # At no rate, and with the same examples throughout, steps differ by what is dropped.
        state = fresh(choices, objective="mle", lr=1e-30, seed=seed, steps=4)
        train(state, Dataset("constant", pixels), examples(choices)[1], watcher())
    assert len({loss for _, loss in seen}) == 8


def test_the_parts_of_a_batch_drop_others(
    fresh: Make, spy: Make, examples: Make, watcher: Make
) -> None:
    pixels = torch.full((40, 1, 4, 4), 100, dtype=torch.uint8)
    for dropout, distinct in ((0.0, 1), (0.5, 4)):
        seen = spy("mle")
        choices = {**DISCRETE, "dropout": dropout}
        state = fresh(choices, objective="mle", steps=1, grad_accumulation=4)
        train(state, Dataset("constant", pixels), examples(choices)[1], watcher())
        assert len({loss for _, loss in seen}) == distinct


# Compilation


@pytest.mark.slow
def test_a_traced_step_is_the_same_step(
    fresh: Make, examples: Make, watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of --compile but the C++ compiler, which takes a second for each of a hundred kernels.
    compiler = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    choices = {**DISCRETE, "dropout": 0.0}
    losses = []
    for traced in (False, True):
        seen = watcher()
        state = fresh(choices, objective="mle", lr=1e-4, steps=3, compile=traced)
        train(state, *examples(choices), seen)
        losses.append(seen.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
