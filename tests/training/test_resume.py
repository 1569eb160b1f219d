"""A run that was stopped and resumed, through real files, ends as one that never was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.errors import OutputError
from arcsm_cli.io.checkpoint import load_checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.restore import restore
from arcsm_cli.training import autoregressive
from arcsm_cli.training.loop import DivergedError
from arcsm_cli.training.session import Session
from arcsm_cli.training.state import TrainState
from tests.training.runs import DISCRETE, PIXELCNN, SCORES, assert_same_files, equal

Make = Callable[..., Any]

STAGED: dict[str, Any] = {"annealing": "staged", "levels": 3}


# Going on


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_run_stopped_at_any_step_ends_as_one_that_was_not(run: Make, stop: int) -> None:
    whole, parts = run(), run()
    whole.start()
    parts.interrupted([stop])
    assert_same_files(whole, parts)


# Stages of four steps: 4 and 8 are their boundaries, 5 and 10 those of epochs.
@pytest.mark.parametrize("stop", [2, 4, 5, 8, 10])
def test_a_staged_run_stopped_at_any_step_ends_as_one_that_was_not(run: Make, stop: int) -> None:
    whole, parts = run(SCORES | STAGED, steps=4), run(SCORES | STAGED, steps=4)
    whole.start()
    parts.interrupted([stop])
    assert_same_files(whole, parts)


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "dsm"},
        {"control_variate": "none"},
        {"draws": 3},
        {"ema": 0.0},
        {"schedule": "constant", "clip": 0.0},
        {"precision": "bf16"},
        {"seed": 5},
        {"batch_size": 100},
    ],
    ids=str,
)
def test_a_run_of_other_settings_goes_on_as_well(run: Make, values: dict[str, Any]) -> None:
    whole, parts = run(**values), run(**values)
    whole.start()
    parts.interrupted([2, 3])
    assert_same_files(whole, parts)


@pytest.mark.parametrize(
    ("choices", "values"),
    [
        pytest.param(DISCRETE, {"objective": "mle", "grad_accumulation": 3}, id="in parts"),
        pytest.param(
            DISCRETE, {"objective": "mle", "precision": "bf16"}, id="bf16", marks=pytest.mark.slow
        ),
        pytest.param(
            {**PIXELCNN, "annealing": "staged", "levels": 2},
            {"objective": "csm", "steps": 4},
            id="staged",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_that_was_stopped_leaves_the_bytes_of_one_that_was_not(
    run: Make, choices: Any, values: Any
) -> None:
    whole, parts = run(choices, **values), run(choices, **values)
    assert whole.start()
    for after in (2, 3):  # an epoch has five steps
        torch.manual_seed(after)  # another process has another state
        assert not parts.start(after)
    assert parts.start()
    assert [p.read_bytes() for p in parts.files] == [p.read_bytes() for p in whole.files]


def test_a_run_with_frames_goes_on_as_well(run: Make) -> None:
    whole, parts = run(SCORES | {"frames": "linear"}), run(SCORES | {"frames": "linear"})
    whole.start()
    parts.interrupted([2, 3])
    assert_same_files(whole, parts)


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = run(), run()
    whole.start()

    class Killed(BaseException):
        pass

    def kill(self: Session, state: TrainState, loss: float) -> None:
        if state.step == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Session, "stepped", kill)
        with pytest.raises(Killed):
            parts.start()
    assert parts.resumed().step == 3
    parts.start()
    assert_same_files(whole, parts)


def test_a_run_killed_between_its_two_files_writes_the_other(run: Make) -> None:
    parts = run()
    parts.start()
    content = parts.files[0].read_bytes()
    parts.files[0].unlink()
    assert parts.start()
    assert parts.files[0].read_bytes() == content


def test_a_complete_run_is_left_as_it_is(run: Make) -> None:
    complete = run()
    complete.start()
    content = [path.read_bytes() for path in complete.files]
    assert complete.start()
    assert [path.read_bytes() for path in complete.files] == content


def test_a_complete_run_can_be_made_longer(run: Make) -> None:
    longer = run()
    longer.start()
    longer.settings = replace(longer.settings, steps=9)
    assert longer.start()
    assert load_checkpoint(longer.output).training["step"] == 9


# What the files hold


def test_the_checkpoint_holds_the_averaged_weights(run: Make) -> None:
    complete = run()
    complete.start()
    averaged = complete.resumed().average
    assert equal(load_checkpoint(complete.output).tensors, averaged)


def test_the_checkpoint_makes_the_model_again(run: Make) -> None:
    complete = run()
    complete.start()
    assert restore(load_checkpoint(complete.output)).config == complete.config


def test_the_checkpoint_says_how_far_it_was_trained(run: Make) -> None:
    stopped = run()
    stopped.start(5)
    training = load_checkpoint(stopped.output).training
    assert training["step"] == 5
    assert training["history"]["step"] == [2, 4]
    assert training["data_digest"] == stopped.data.digest


def test_a_stream_gets_the_final_checkpoint_alone(
    run: Make, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    streamed, filed = run(), run()
    streamed.output = "-"
    filed.start()
    capsysbinary.readouterr()
    assert streamed.start()
    assert capsysbinary.readouterr().out == filed.files[0].read_bytes()
    assert not Path("-.resume").exists()


def test_a_stopped_run_writes_nothing_to_a_stream(
    run: Make, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    streamed = run()
    streamed.output = "-"
    assert not streamed.start(3)
    assert capsysbinary.readouterr().out == b""


def test_an_existing_output_is_kept_unless_forced(run: Make) -> None:
    fresh = run()
    fresh.files[0].write_bytes(b"precious")
    with pytest.raises(OutputError):
        fresh.start(force=False)
    assert fresh.files[0].read_bytes() == b"precious"


def test_a_run_leaves_alone_what_another_saved_meanwhile(run: Make) -> None:
    fresh = run()
    state = fresh.state()
    fresh.files[1].write_bytes(b"theirs")
    session = Session(fresh.output, "", [], lambda: False, lambda loss, valid: None)
    with pytest.raises(OutputError):
        session.run(state, fresh.data, fresh.valid, force=False)
    assert fresh.files[1].read_bytes() == b"theirs"
    assert not fresh.files[0].exists()


def test_a_run_replaces_the_checkpoints_that_it_wrote_itself(run: Make) -> None:
    fresh = run(checkpoint_every=1)
    assert fresh.start(force=False)


# Divergence


def test_a_diverged_run_leaves_nothing(run: Make) -> None:
    diverging = run(lr=1e30, warmup=0, checkpoint_every=1, validate_every=1)
    with pytest.raises(DivergedError):
        diverging.start()
    assert list(diverging.files[0].parent.iterdir()) == []


def test_a_diverged_run_keeps_its_last_good_files(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = run()
    diverging.start(4)
    content = [path.read_bytes() for path in diverging.files]

    def bad(model: ARCSM, batch: Any, random: Any) -> Tensor:
        return sum(p.sum() for p in model.parameters()) * torch.tensor(float("nan"))  # type: ignore[return-value]

    monkeypatch.setitem(autoregressive.OBJECTIVES, "csm", bad)
    with pytest.raises(DivergedError):
        diverging.start()
    assert [path.read_bytes() for path in diverging.files] == content
