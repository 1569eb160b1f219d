"""A training run with its files: start or resume, save as it goes, stop when asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.checkpoint import load_resume, save_checkpoint, save_resume
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.training.loop import generator_for, train
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState
from arcsm_cli.training.tensorboard import TensorBoard

_INITIAL_WEIGHTS = 3  # a purpose of random numbers, after those of the loop


def resume_path(output: str) -> Path:
    """Return where the file that only resuming needs lies: beside the checkpoint."""
    return Path(output + ".resume")


def fresh_state(config: ModelConfig, settings: TrainSettings, device: str) -> TrainState:
    """Return the state before the first step; the weights are a function of the seed."""
    import torch

    seed = generator_for(settings.seed, _INITIAL_WEIGHTS, 0).initial_seed()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ARCSM(config)
    return TrainState(model.to(device), settings)


@dataclass
class Session:
    """Where a run's results go, and what it tells whom; an observer of the training loop.

    Attributes:
        output: the checkpoint's path, or ``-``: then only the final checkpoint is written.
        digest: SHA-256 of the training data.
        provenance: the chain for the files, this command's entry last.
        stop: polled after every step.
        report: called with (loss, latest validation loss or None) after every step.
        board: TensorBoard curves, if wanted.
    """

    output: str
    digest: str
    provenance: list[dict[str, Any]]
    stop: Callable[[], bool]
    report: Callable[[float, float | None], None]
    board: TensorBoard | None = None
    _valid_loss: float | None = field(default=None, init=False)

    def run(self, state: TrainState, data: Dataset, valid: Dataset, *, force: bool) -> bool:
        """Train to the end; True if complete, False if stopped early with everything saved."""
        self._force = force
        complete = train(state, data, valid, self)
        if self.output == "-" and complete:
            self._write(state, "-")
        return complete

    def stepped(self, state: TrainState, loss: float) -> None:
        """Report a step."""
        self.report(loss, self._valid_loss)

    def recorded(self, state: TrainState) -> None:
        """Pass a new entry of the history on."""
        self._valid_loss = state.history["valid_loss"][-1]
        if self.board is not None:
            self.board.record(state)

    def stop_requested(self) -> bool:
        """Whether a signal came."""
        return self.stop()

    def checkpoint(self, state: TrainState) -> None:
        """Write both files; the resume file first, since it alone is enough to go on."""
        if self.output == "-":
            return
        tensors, values = state.resume_file(self.provenance, self.digest)
        with atomic_output(str(resume_path(self.output)), force=True) as path:
            save_resume(path, tensors, values)
        self._write(state, self.output)

    def _write(self, state: TrainState, target: str) -> None:
        # The first write honours --force; later ones replace this run's own file.
        with atomic_output(target, force=self._force) as path:
            save_checkpoint(path, state.checkpoint(self.provenance, self.digest))
        self._force = True


def resumed_state(
    output: str, config: ModelConfig, settings: TrainSettings, digest: str, device: str
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Return the state and the provenance chain of an interrupted run.

    Raises:
        DamagedInputError: if the resume file is damaged.
        UsageError: if model, data or settings are not those of the interrupted run.
    """
    path = resume_path(output)
    tensors, values = load_resume(path)
    if values.get("data_digest") != digest:
        raise UsageError(f"{path}: the run to resume was trained on other data")
    state = TrainState.from_resume(tensors, values, settings, device)
    if state.model.config != config:
        theirs, ours = state.model.config.to_dict(), config.to_dict()
        key = next(k for k in ours if ours[k] != theirs[k])
        raise UsageError(f"{path}: the run to resume has {key} {theirs[key]}, not {ours[key]}")
    chain = values.get("provenance")
    return state, chain if isinstance(chain, list) else []
