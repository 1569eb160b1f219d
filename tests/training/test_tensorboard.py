"""Curves and images for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import Session, fresh_state
from arcsm_cli.training.tensorboard import TensorBoard

Make = Callable[..., Any]


@pytest.fixture
def logged(tmp_path: Path, settings: Make) -> Callable[[Dataset], Any]:
    """Trains for a few steps and returns what was logged."""

    def run(data: Dataset) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        choices = Choices(hidden=(4,), score_hidden=(4,), context_width=2)
        state = fresh_state(model_config(data, choices), settings(steps=4), "cpu")
        board = TensorBoard(tmp_path / "log", grid_every=2)
        session = Session(
            str(tmp_path / "m"), "", [], lambda: False, lambda loss, valid: None, board
        )
        session.run(state, data, data, force=False)
        board.close()
        events = EventAccumulator(str(tmp_path / "log"))
        events.Reload()
        return state, events

    return run


def test_the_curves_are_those_of_the_history(logged: Make, data: Dataset) -> None:
    state, events = logged(data)
    for tag, name in (("loss/train", "loss"), ("loss/valid", "valid_loss"), ("lr", "lr")):
        points = events.Scalars(tag)
        assert [p.step for p in points] == state.history["step"]
        assert [p.value for p in points] == pytest.approx(state.history[name], rel=1e-6)


def test_vectors_have_no_images(logged: Make, data: Dataset) -> None:
    assert logged(data)[1].Tags()["images"] == []


def test_images_are_drawn_when_they_are_due(logged: Make) -> None:
    pictures = Dataset("x", torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    _, events = logged(pictures)
    tags = events.Tags()["images"]
    assert tags
    assert {image.step for tag in tags for image in events.Images(tag)} == {4}


def test_logging_does_not_change_the_weights(logged: Make, settings: Make, watcher: Make) -> None:
    pictures = Dataset("x", torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    state, _ = logged(pictures)
    plain = fresh_state(state.model.config, state.settings, "cpu")
    train(plain, pictures, pictures, watcher())
    assert all(torch.equal(plain.average[k], v) for k, v in state.average.items())


def test_a_training_goes_on_where_its_curves_cannot_be_written(
    tmp_path: Path, settings: Make, data: Dataset, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    choices = Choices(hidden=(4,), score_hidden=(4,), context_width=2)
    state = fresh_state(model_config(data, choices), settings(steps=4), "cpu")
    board = TensorBoard(tmp_path / "log")
    (events,) = (tmp_path / "log").iterdir()
    events.unlink()
    # The file is open, but what follows is written by name.
    events.symlink_to("/dev/full")
    session = Session(str(tmp_path / "m"), "", [], lambda: False, lambda loss, valid: None, board)
    assert session.run(state, data, data, force=False)
    board.close()
    assert [r.getMessage() for r in caplog.records] == [
        f"--log-dir {tmp_path / 'log'}: cannot be written: No space left on device; "
        "the training goes on without it"
    ]
    assert capfd.readouterr() == ("", "")
