"""The training loop: what step t does depends on the seed, t and the state, on nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset, as_float
from arcsm_cli.errors import ArcsmError
from arcsm_cli.randomness import Purpose, generator_for
from arcsm_cli.training.state import TrainState


class DivergedError(ArcsmError):
    """The loss or the weights stopped being numbers."""

    exit_code = 1


class Observer(Protocol):
    """What happens around the steps; the loop itself touches no file and no terminal."""

    def stepped(self, state: TrainState, loss: float) -> None:
        """After each step."""

    def recorded(self, state: TrainState) -> None:
        """After each new entry of the history."""

    def checkpoint(self, state: TrainState) -> None:
        """When the state is to be saved; it is finite."""

    def stop_requested(self) -> bool:
        """Whether to stop after this step."""


@dataclass
class Batches:
    """Deterministic epochs over a data set: a fresh permutation each, the ragged end dropped."""

    data: Dataset
    size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def __post_init__(self) -> None:
        self.size = min(self.size, len(self.data))

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.data) // self.size)

    def on(self, device: torch.device, step: int) -> Tensor:
        """Return the stored values of a step's examples on a device.

        They travel as they are stored (8-bit images as bytes); to a GPU from pinned memory, which
        lets the copy go on beside the computation.
        """
        values = self.data.values[self._index(step)]
        if device.type == "cuda":
            values = values.pin_memory()
        return values.to(device, non_blocking=True)

    def at(self, step: int) -> Tensor:
        """Return the examples of a step, in file units."""
        return self.data.take(self._index(step))

    def _index(self, step: int) -> Tensor:
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = generator_for(self.seed, Purpose.ORDER, epoch)
            self._order = torch.randperm(len(self.data), generator=generator)
            self._epoch = epoch
        return self._order[index * self.size : (index + 1) * self.size]


def train(state: TrainState, data: Dataset, valid: Dataset, observer: Observer) -> bool:
    """Run a training from where its state stands to its last step.

    With several ranks each takes its part of every batch, and all hold the same state; they stop
    together when any of them is asked to.

    Arguments:
        state: fresh or resumed; changed in place.
        data, valid: training and held-out examples.
        observer: is told of steps and asked whether to stop.

    Returns:
        True if the run is complete, False if it was stopped early; the state was saved either way.

    Raises:
        DivergedError: if loss, gradient or weights become NaN or infinite; nothing is saved then.
    """
    settings, model, task = state.settings, state.model, state.task
    batches = Batches(data, settings.batch_size, settings.seed)
    device = next(model.parameters()).device
    total = settings.steps * task.stages(model)
    saved = state.step
    upcoming = batches.on(device, state.step) if state.step < total else torch.empty(0)
    while state.step < total:
        stage, stage_step = divmod(state.step, settings.steps)
        if stage_step == 0 and stage > 0:
            task.begin(state, stage)
        lr = settings.learning_rate(stage_step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)

        state.optimizer.zero_grad(set_to_none=True)
        figures = task.gradient(state, as_float(upcoming), stage)
        if state.step + 1 < total:  # its way to the device passes while this step is computed
            upcoming = batches.on(device, state.step + 1)
        limit = settings.clip if settings.clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        values = state.ranks.total(torch.stack(figures)).tolist()
        if not np.isfinite(values).all() or not bool(norm.isfinite()):
            raise _diverged(state.step + 1, saved)
        state.optimizer.step()
        state.update_average(stage_step, task.trained(model, stage))
        state.step += 1
        state.pending = [a + b for a, b in zip(state.pending, (*values, 1.0), strict=True)]
        observer.stepped(state, values[0])

        last = state.step == total
        if last or state.step % settings.validate_every == 0:
            _record(state, valid, lr)
            if not np.isfinite(state.history["valid_loss"][-1]):
                raise _diverged(state.step, saved)
            observer.recorded(state)
        stopping = state.ranks.any(observer.stop_requested())
        if last or stopping or state.step % settings.checkpoint_every == 0:
            if not state.is_finite():
                raise _diverged(state.step, saved)
            observer.checkpoint(state)
            saved = state.step
        if stopping and not last:
            return False
    return True


def _record(state: TrainState, valid: Dataset, lr: float) -> None:
    """Append the means since the last record and the held-out loss to the history."""
    *sums, count = state.pending
    state.pending = [0.0] * len(state.pending)
    stage = (state.step - 1) // state.settings.steps
    values = {"step": state.step, "valid_loss": state.task.validation_loss(state, valid, stage)}
    values |= {"lr": lr}
    means = (total / max(1.0, count) for total in sums)
    values |= dict(zip(state.task.curves(state.model), means, strict=True))
    for name, value in values.items():
        state.history[name].append(float(value))


def _diverged(step: int, saved: int) -> DivergedError:
    kept = f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was written yet"
    return DivergedError(
        f"training diverged at step {step} (the loss is not finite); {kept}; lower --lr"
    )
