"""One training with its files, and what is compared of two."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.io.checkpoint import load_checkpoint, load_resume
from arcsm_cli.training.session import Session, fresh_state, resume_path, resumed_state
from arcsm_cli.training.settings import RunSettings
from arcsm_cli.training.state import TrainState

PIXELCNN: dict[str, Any] = {
    "context": "pixelcnn",
    "filters": 4,
    "resnet_blocks": 1,
    "dropout": 0.5,
    "score_hidden": (5,),
    "context_width": 2,
}
MLE: dict[str, Any] = {"annealing": "none", "components": 2}
DISCRETE: dict[str, Any] = {**PIXELCNN, **MLE, "likelihood": "discretized-logistic-mixture"}
MIXTURE: dict[str, Any] = {**MLE, "hidden": (6, 6), "likelihood": "logistic-mixture"}
# Without frames all weights are trained, and from the first step alike.
SCORES: dict[str, Any] = {"hidden": (6, 6), "score_hidden": (5,), "context_width": 2}
SCORES |= {"frames": "none"}


class Run:
    """One training command: settings, data and an output, started as often as needed."""

    def __init__(
        self, output: Path, config: Any, settings: RunSettings, data: Dataset, valid: Dataset
    ) -> None:
        self.output, self.config, self.settings = str(output), config, settings
        self.data, self.valid = data, valid

    @property
    def files(self) -> tuple[Path, Path]:
        return Path(self.output), resume_path(self.output)

    def state(self) -> TrainState:
        if self.files[1].exists():
            return self.resumed()
        return self.begun()

    def begun(self) -> TrainState:
        return fresh_state(self.config, self.settings, "cpu")

    def resumed(self, **changes: Any) -> TrainState:
        settings = replace(self.settings, **changes)
        return resumed_state(self.output, self.config, settings, self.data.digest, "cpu")[0]

    def start(self, after: int | None = None, *, force: bool = True) -> bool:
        """Train; stop once ``after`` more steps are done."""
        done = itertools.count(1)
        stop = False

        def report(loss: float, valid_loss: float | None) -> None:
            nonlocal stop
            stop = next(done) == after

        session = Session(self.output, self.data.digest, [], lambda: stop, report)
        return session.run(self.state(), self.data, self.valid, force=force)

    def interrupted(self, stops: Iterable[int]) -> None:
        for after in stops:
            assert not self.start(after)
        assert self.start()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def assert_same_files(one: Run, other: Run) -> None:
    first, second = load_checkpoint(one.output), load_checkpoint(other.output)
    assert equal(first.tensors, second.tensors)
    assert first.training == second.training
    assert equal(load_resume(one.files[1])[0], load_resume(other.files[1])[0])


def assert_refused_by_its_option(stopped: Run, change: dict[str, Any]) -> None:
    """Stop a run after two steps; going on with another setting names the option of it."""
    stopped.start(2)
    option = "--" + next(iter(change)).replace("_", "-")
    with pytest.raises(UsageError, match=option):
        stopped.resumed(**change)
