"""Which weights a run keeps, when it ends, and what it begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.io.checkpoint import load_checkpoint, save_checkpoint
from arcsm_cli.notices import NOTICE
from arcsm_cli.training.loop import train, validation_set
from arcsm_cli.training.session import Session, fresh_state, resume_path, resumed_state
from arcsm_cli.training.start import load_start
from arcsm_cli.training.state import TrainState

Make = Callable[..., Any]

OVERFITS: dict[str, Any] = {"lr": 0.5, "clip": 0.0, "ema": 0.0, "steps": 20, "schedule": "constant"}


@pytest.fixture
def trained(config: Make, data: Dataset, valid: Dataset, watcher: Any) -> Make:
    """Trains; returns the state, and its averaged weights after every step."""

    def run(settings: Any, **choices: Any) -> tuple[TrainState, Any]:
        state, seen = fresh_state(config(**choices), settings, "cpu"), watcher()
        assert train(state, data, valid, seen)
        return state, seen

    return run


def test_the_weights_of_the_least_validation_loss_are_kept(trained: Make, settings: Make) -> None:
    state, seen = trained(settings(keep="best", **OVERFITS))
    losses = state.history["valid_loss"]
    step = int(state.history["step"][losses.index(min(losses))])
    assert 2 <= step < 20
    found = state.checkpoint([], "", {})
    assert found.training["kept"] == {"step": step, "valid_loss": min(losses)}
    for name, weight in seen.averages[step - 1].items():
        assert torch.equal(found.tensors[name], weight)


def test_what_is_kept_changes_nothing_of_the_training(trained: Make, settings: Make) -> None:
    states = [trained(settings(keep=keep, **OVERFITS))[0] for keep in ("last", "best")]
    assert states[0].history == states[1].history
    assert all(torch.equal(states[0].average[k], w) for k, w in states[1].average.items())


def test_each_stage_keeps_its_own_best(trained: Make, settings: Make) -> None:
    state, seen = trained(settings(keep="best", **OVERFITS), annealing="staged", levels=2)
    history = state.history
    for stage in range(2):
        rows = [
            (loss, int(step))
            for loss, step in zip(history["valid_loss"], history["step"], strict=True)
            if stage * 20 < step <= (stage + 1) * 20
        ]
        for name, weight in seen.averages[min(rows)[1] - 1].items():
            if name.startswith(f"stages.{stage}."):
                assert torch.equal(state.best[name], weight)


def test_a_run_ends_when_its_patience_does(trained: Make, settings: Make) -> None:
    state, seen = trained(settings(patience=3, **OVERFITS | {"steps": 400}))
    losses = state.history["valid_loss"]
    assert state.step < 400
    assert losses.index(min(losses)) == len(losses) - 4
    assert seen.saved[-1] == state.step


def test_a_run_that_keeps_the_best_is_resumed_bit_for_bit(
    config: Make, settings: Make, data: Dataset, valid: Dataset, tmp_path: Path
) -> None:
    def run(name: str, *stops: int) -> tuple[bytes, bytes]:
        wanted, output = settings(keep="best", patience=6, **OVERFITS), str(tmp_path / name)
        for after in (*stops, None):
            done: list[float] = []
            session = Session(
                output,
                data.digest,
                [],
                lambda done=done, after=after: len(done) == after,  # type: ignore[misc]
                lambda loss, valid_loss, done=done: done.append(loss),  # type: ignore[misc]
            )
            if resume_path(output).exists():
                state, _ = resumed_state(output, config(), wanted, data.digest, "cpu")
            else:
                state = fresh_state(config(), wanted, "cpu")
            assert session.run(state, data, valid, force=True) == (after is None)
        return Path(output).read_bytes(), resume_path(output).read_bytes()

    assert run("at once") == run("in parts", 1, 4, 8)
    assert run("at once") == run("at once")  # nothing is left to train, and nothing changes


@pytest.mark.parametrize("count", [3, 40, 5000])
def test_the_validation_loss_is_of_many_draws_and_of_all_parts_of_the_set(count: int) -> None:
    valid = Dataset("x", torch.arange(float(count * 3)).view(count, 3))
    seen = validation_set(valid, 256, noisy=True).values
    assert 256 <= len(seen) < 512
    assert seen[:, 0].mean().item() == pytest.approx(valid.values[:, 0].mean().item(), rel=0.15)
    assert torch.equal(seen, validation_set(valid, 256, noisy=True).values)


def test_a_loss_without_noise_takes_each_example_once() -> None:
    assert len(validation_set(Dataset("x", torch.randn(7, 2)), 256, noisy=False)) == 7


def test_a_longer_schedule_that_raises_the_learning_rate_says_so(
    config: Make,
    settings: Make,
    data: Dataset,
    valid: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(NOTICE)
    output = str(tmp_path / "m")
    session = Session(output, data.digest, [], lambda: False, lambda loss, valid_loss: None)
    session.run(fresh_state(config(), settings(), "cpu"), data, valid, force=False)
    for steps, said in ((7, False), (70, True)):
        caplog.clear()
        resumed_state(output, config(), settings(steps=steps), data.digest, "cpu")
        assert ("the learning rate rises from" in caplog.text) == said


@pytest.fixture
def start(trained: Make, settings: Make, tmp_path: Path) -> Make:
    """Makes a checkpoint to start from."""

    def make(**choices: Any) -> Any:
        state, _ = trained(settings(), **choices)
        save_checkpoint(tmp_path / "start", state.checkpoint([], "", {}))
        return load_start(str(tmp_path / "start"))

    return make


@pytest.mark.parametrize("choices", [{}, {"annealing": "staged", "levels": 2}])
def test_a_run_begins_with_the_weights_of_another(
    choices: dict[str, Any], start: Make, config: Make, settings: Make, data: Dataset, watcher: Any
) -> None:
    begun = start(**choices)
    wanted = settings(started_from=begun.digest, lr=1e-12)
    state = fresh_state(begun.fitted(config(**choices)), wanted, "cpu", begun.tensors)
    train(state, data, data, watcher())
    for name, weight in begun.tensors.items():
        assert torch.allclose(state.average[name], weight, atol=1e-6)
    assert begun.tensors.keys() == load_checkpoint(begun.name).tensors.keys()


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"hidden": (9, 9)}, "hidden"),
        ({"order": "reversed"}, "order"),
        ({"likelihood": "gaussian", "annealing": "none"}, "likelihood"),
    ],
)
def test_another_architecture_is_refused_by_what_differs(
    choices: dict[str, Any], named: str, start: Make, config: Make
) -> None:
    with pytest.raises(UsageError, match=rf"--init .*{named}|--init .*context_width"):
        start().fitted(config(**choices))


def test_the_data_scale_stays_that_of_the_weights_and_is_said(
    start: Make, config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    begun = start()
    ours = replace(config(), mean=(9.0, 9.0, 9.0), levels=(50.0, 0.1))
    assert begun.fitted(ours) == begun.config
    assert "keeps data scale" in caplog.text
    assert begun.fitted(ours, own_levels=True).levels == (50.0, 0.1)
