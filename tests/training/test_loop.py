"""The training loop: what each step does, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset, as_float
from arcsm_cli.data.densities import entropy
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.distributed.ranks import SOLO
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws, Purpose, generator_for
from arcsm_cli.training import autoregressive, loop
from arcsm_cli.training.batches import HeldBatches, batches_of
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.state import TrainState
from tests.training.runs import SCORES, equal

Make = Callable[..., Any]

STAGED: dict[str, Any] = {**SCORES, "annealing": "staged", "levels": 3}


def validation_loss(state: TrainState, valid: Dataset) -> float:
    return loop.validation_loss(state, valid, 0)


# Batches


def taken(data: Dataset, size: int, step: int) -> Tensor:
    return as_float(HeldBatches(data, size, seed=0).at(step).x)


def test_an_epoch_shows_no_example_twice() -> None:
    data = Dataset("x", torch.arange(23.0)[:, None])
    seen = torch.cat([taken(data, 4, step) for step in range(5)])[:, 0].tolist()
    assert len(seen) == len(set(seen)) == 20


def test_epochs_are_shuffled_afresh() -> None:
    batches = HeldBatches(Dataset("x", torch.arange(20.0)[:, None]), 20, seed=0)
    epochs = {tuple(batches.at(step).x[:, 0].tolist()) for step in range(4)}
    assert len(epochs) == 4


def test_a_batch_depends_on_its_step_alone() -> None:
    data = Dataset("x", torch.arange(20.0)[:, None])
    forwards = HeldBatches(data, 6, seed=0)
    for step in range(9):
        assert torch.equal(forwards.at(step).x, taken(data, 6, step))


def test_a_batch_is_at_most_the_data() -> None:
    batches = batches_of(Dataset("x", torch.arange(5.0)[:, None]), 100, 0, SOLO)
    assert sorted(batches.at(3, whole=True).x[:, 0].tolist()) == [0, 1, 2, 3, 4]


OF_STEPS = [purpose for purpose in Purpose if not purpose.of_examples]


def test_random_streams_of_one_seed_do_not_meet() -> None:
    seeds = {
        generator_for(seed, purpose, index).initial_seed()
        for seed in range(3)
        for purpose in OF_STEPS
        for index in range(50)
    }
    assert len(seeds) == 3 * len(OF_STEPS) * 50


# Reproducibility


def test_seeds_give_different_weights_from_the_start(fresh: Make) -> None:
    assert not equal(fresh().average, fresh(seed=1).average)


def test_how_often_is_saved_and_recorded_does_not_change_the_weights(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    one, other = fresh(), fresh(checkpoint_every=1, validate_every=1)
    train(one, data, valid, watcher())
    train(other, data, valid, watcher())
    assert equal(one.average, other.average)


# Steps


def test_a_complete_run_says_so(fresh: Make, data: Dataset, valid: Dataset, watcher: Make) -> None:
    state, seen = fresh(), watcher()
    assert train(state, data, valid, seen)
    assert (state.step, len(seen.losses)) == (7, 7)


def test_every_stage_has_all_steps(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state = fresh(STAGED)
    assert train(state, data, valid, watcher())
    assert state.step == 3 * 7


def test_checkpoints_are_due_at_intervals_and_at_the_end(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    seen = watcher()
    train(fresh(), data, valid, seen)
    assert seen.saved == [3, 6, 7]


def test_the_history_grows_at_intervals_and_at_the_end(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(), watcher()
    train(state, data, valid, seen)
    assert seen.records == state.history["step"] == [2, 4, 6, 7]


def test_the_recorded_loss_is_the_mean_since_the_last_record(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(), watcher()
    train(state, data, valid, seen)
    spans = [(0, 2), (2, 4), (4, 6), (6, 7)]
    means = [sum(seen.losses[a:b]) / (b - a) for a, b in spans]
    assert state.history["loss"] == pytest.approx(means)


def test_each_stage_goes_through_the_whole_schedule(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(STAGED), watcher()
    train(state, data, valid, seen)
    assert seen.rates == [state.settings.learning_rate(step) for step in range(7)] * 3


@pytest.mark.parametrize("clip", [0.5, 1e-3])
def test_gradients_are_clipped(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make, clip: float
) -> None:
    free, clipped = watcher(), watcher()
    train(fresh(clip=0.0), data, valid, free)
    train(fresh(clip=clip), data, valid, clipped)
    assert max(free.gradients) > clip
    assert max(clipped.gradients) <= clip * (1 + 1e-5)


# The average


def test_the_average_follows_closely_at_first(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(ema=0.999), watcher()
    expected = {k: v.clone() for k, v in state.average.items()}
    train(state, data, valid, seen)
    for t, (weights, averages) in enumerate(zip(seen.weights, seen.averages, strict=True)):
        decay = (1 + t) / (10 + t)
        expected = {k: decay * v + (1 - decay) * weights[k] for k, v in expected.items()}
        assert all(torch.allclose(averages[k], v, atol=1e-6) for k, v in expected.items())


def test_the_average_never_follows_more_slowly_than_set(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(ema=0.2), watcher()
    train(state, data, valid, seen)
    for before, after, weights in zip(
        seen.averages[2:], seen.averages[3:], seen.weights[3:], strict=False
    ):
        assert all(torch.allclose(after[k], 0.2 * before[k] + 0.8 * weights[k]) for k in after)


def test_without_averaging_the_average_is_the_weights(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state = fresh(ema=0.0)
    train(state, data, valid, watcher())
    assert equal(state.average, {k: v.detach() for k, v in state.model.named_parameters()})


# Stages


def of_stage(weights: dict[str, Tensor], stage: int) -> dict[str, Tensor]:
    prefix = f"stages.{stage}."
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def test_only_the_stage_in_training_moves(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    seen = watcher()
    train(fresh(STAGED), data, valid, seen)
    for kind in (seen.weights, seen.averages):
        for step in range(1, 21):
            # A step that begins a stage also copies the one before it.
            moved = {
                s for s in range(3) if not equal(*(of_stage(kind[t], s) for t in (step - 1, step)))
            }
            assert moved == {step // 7}


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_starts_from_the_average_of_the_one_before(
    fresh: Make,
    data: Dataset,
    valid: Dataset,
    watcher: Make,
    stage: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before_step: list[dict[str, Tensor]] = []

    def spy(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
        before_step.append({k: v.detach().clone() for k, v in model.named_parameters()})
        return csm(model, batch, random)

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", spy)
    state, seen = fresh(STAGED, validate_every=10**6), watcher()
    train(state, data, valid, seen)
    start = of_stage(before_step[7 * stage], stage)
    assert equal(start, of_stage(seen.averages[7 * stage - 1], stage - 1))
    assert not equal(start, of_stage(seen.weights[7 * stage - 1], stage - 1))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_trains_at_its_own_level(
    fresh: Make,
    data: Dataset,
    valid: Dataset,
    watcher: Make,
    stage: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels: list[float] = []

    def spy(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
        levels.append(float(batch.sigma))
        return csm(model, batch, random)

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", spy)
    state = fresh(STAGED, validate_every=10**6)
    train(state, data, valid, watcher())
    assert levels[7 * stage : 7 * stage + 7] == pytest.approx([state.model.levels[stage]] * 7)


# Validation


def test_the_validation_loss_is_that_of_the_averaged_weights(fresh: Make, valid: Dataset) -> None:
    state = fresh()
    before = validation_loss(state, valid)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1.0)
    assert validation_loss(state, valid) == before
    for value in state.average.values():
        value.add_(1.0)
    assert validation_loss(state, valid) != before


def test_the_validation_loss_draws_the_same_noise_every_time(fresh: Make, valid: Dataset) -> None:
    state = fresh()
    first = validation_loss(state, valid)
    state.step = 5
    assert validation_loss(state, valid) == first


def test_the_validation_loss_counts_every_example_once(
    fresh: Make, valid: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_value(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
        return batch.context_input.x.mean() * model.config.dimensions

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", first_value)
    monkeypatch.setattr(ARCSM, "sigma_min", 0.0)
    # 20 examples in batches of 8: the last one is smaller.
    expected = float(valid.values.mean())
    assert validation_loss(fresh({**SCORES, "sigma_min": 0.05}), valid) == pytest.approx(
        expected, abs=1e-6
    )


# Stopping


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_stop_request_ends_the_run_with_its_state_saved(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make, after: int
) -> None:
    state, seen = fresh(), watcher(after)
    assert not train(state, data, valid, seen)
    assert state.step == seen.saved[-1] == after


def test_a_stop_request_at_the_last_step_comes_too_late(
    fresh: Make, data: Dataset, valid: Dataset, watcher: Make
) -> None:
    state, seen = fresh(), watcher(7)
    assert train(state, data, valid, seen)
    assert seen.saved.count(7) == 1


# It learns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("annealing", "objective", "steps"),
    [("joint", "csm", 150), ("joint", "dsm", 150), ("none", "csm", 120), ("staged", "csm", 60)],
)
def test_a_short_training_comes_near_the_entropy_of_a_gaussian(
    settings: Make, watcher: Make, annealing: str, objective: str, steps: int
) -> None:
    examples, held_out = load_training("gaussian:2", DataOptions())[:2]
    sizes: dict[str, Any] = {"hidden": (32,), "score_hidden": (24, 24), "context_width": 4}
    choices = Choices(annealing=annealing, sigma_min=0.3, **sizes)
    state = fresh_state(
        model_config(examples, choices),
        settings(
            steps=steps,
            batch_size=256,
            objective=objective,
            ema=0.97,
            validate_every=10**6,
        ),
        "cpu",
    )
    train(state, examples, held_out, watcher(None))
    batches = evaluate(state.averaged_model(), held_out.limit(2000), metrics=["nll"])
    nll = torch.cat([batch.figures["nll"] for batch in batches]).mean()
    assert abs(float(nll) - entropy("gaussian:2", 0.3)) < 0.15
