"""Trainings that lose their way end at once, and keep what was good."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws
from arcsm_cli.training import autoregressive, loop
from arcsm_cli.training.loop import DivergedError, train
from tests.training.runs import equal

Make = Callable[..., Any]


def poisoned(at: int) -> Callable[[ARCSM, NoisyBatch, Draws], Tensor]:
    """CSM that is NaN from call number ``at`` on, counted from 1."""
    calls = 0

    def objective(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
        nonlocal calls
        calls += 1
        return csm(model, batch, random) * (math.nan if calls >= at else 1.0)

    return objective


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_loss_that_is_no_number_ends_the_run_unsaved(
    fresh: Make,
    data: Dataset,
    valid: Dataset,
    watcher: Make,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", poisoned(at))
    seen = watcher()
    with pytest.raises(DivergedError, match=f"step {at} "):
        train(fresh(validate_every=10**6), data, valid, seen)
    assert seen.saved == ([3] if at > 3 else [])


def test_figures_that_are_read_late_are_the_same(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = fresh(validate_every=3), fresh(validate_every=3)
    train(early, data, valid, watcher())
    monkeypatch.setitem(loop._STEPS_AHEAD, "cpu", 5)
    train(late, data, valid, watcher())
    assert early.history == late.history
    assert equal(early.average, late.average)


def test_a_loss_that_is_read_late_ends_the_run_at_its_own_step(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loop._STEPS_AHEAD, "cpu", 100)
    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", poisoned(4))
    seen = watcher()
    with pytest.raises(DivergedError, match="step 4 "):
        train(fresh(validate_every=10**6), data, valid, seen)
    assert seen.saved == [3]


def test_data_that_are_no_numbers_end_the_run(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    values = data.values.clone()
    values[7, 1] = math.nan
    seen = watcher()
    with pytest.raises(DivergedError):
        train(fresh(), Dataset("nan", values), valid, seen)
    assert seen.saved == []


@pytest.mark.parametrize("lr", [1e18, 1e25, 1e38])
def test_an_absurd_rate_ends_the_run_unsaved(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make, lr: float
) -> None:
    seen = watcher()
    with pytest.raises(DivergedError):
        train(fresh(lr=lr, warmup=0, checkpoint_every=1, validate_every=1), data, valid, seen)
    assert seen.saved == []


def test_an_infinite_gradient_ends_the_run_unsaved(
    fresh: Make,
    data: Dataset,
    valid: Dataset,
    watcher: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steep(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
        loss = csm(model, batch, random)
        return loss + 1e38 * (1e38 * (loss - loss.detach()))

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", steep)
    seen = watcher()
    with pytest.raises(DivergedError, match="step 1 "):
        train(fresh(), data, valid, seen)
    assert seen.saved == []


def test_weights_that_are_no_numbers_are_not_saved(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(validate_every=10**6, checkpoint_every=1), watcher()
    next(iter(state.average.values())).fill_(math.inf)
    with pytest.raises(DivergedError):
        train(state, data, valid, seen)
    assert seen.saved == []


def test_the_error_of_a_diverged_run_names_what_is_kept(
    fresh: Make,
    data: Dataset,
    valid: Dataset,
    watcher: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", poisoned(5))
    with pytest.raises(DivergedError, match=r"checkpoint of step 3 is kept.*--lr"):
        train(fresh(validate_every=10**6), data, valid, watcher())
