"""The training loop: what step t does depends on the seed, t and the state, on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import ArcsmError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.dsm import dsm
from arcsm_cli.objectives.noise import NoisyBatch, perturb
from arcsm_cli.training.state import TrainState

OBJECTIVES = {"csm": csm, "dsm": dsm}
_VALIDATION_EXAMPLES = 2048
# Purposes of random numbers: streams of one seed that must not meet.
_ORDER, _NOISE, _VALIDATION = range(3)


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

    def at(self, step: int) -> Tensor:
        """Return the examples of a step, in file units."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = generator_for(self.seed, _ORDER, epoch)
            self._order = torch.randperm(len(self.data), generator=generator)
            self._epoch = epoch
        return self.data.take(self._order[index * self.size : (index + 1) * self.size])


def generator_for(
    seed: int, purpose: int, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator that is a function of seed, purpose and index."""
    mixed = int(np.random.SeedSequence([seed, purpose, index]).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


def train(state: TrainState, data: Dataset, valid: Dataset, observer: Observer) -> bool:
    """Run a training from where its state stands to its last step.

    Arguments:
        state: fresh or resumed; changed in place.
        data, valid: training and held-out examples.
        observer: is told of steps and asked whether to stop.

    Returns:
        True if the run is complete, False if it was stopped early; the state was saved either way.

    Raises:
        DivergedError: if loss, gradient or weights become NaN or infinite; nothing is saved then.
    """
    settings, model = state.settings, state.model
    model.low_precision = settings.precision == "bf16"
    objective: Callable[[ARCSM, NoisyBatch], Tensor] = OBJECTIVES[settings.objective]
    if settings.compile:
        objective = torch.compile(objective)
    batches = Batches(data, settings.batch_size, settings.seed)
    device = model.mean.device
    total = settings.steps * len(model.stages)
    saved = state.step
    while state.step < total:
        stage, stage_step = divmod(state.step, settings.steps)
        if stage_step == 0 and stage > 0:
            _begin_stage(state, stage)
        names = [n for n, _ in model.named_parameters() if n.startswith(f"stages.{stage}.")]
        lr = settings.learning_rate(stage_step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr

        x = model.sort(batches.at(state.step).to(device, non_blocking=True))
        generator = generator_for(settings.seed, _NOISE, state.step, device)
        batch = perturb(model, x, generator, level=_level(model, stage), draws=settings.draws)
        loss = objective(model, batch) / x.shape[1]
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = settings.clip if settings.clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        value = float(loss.detach())
        if not np.isfinite(value) or not bool(norm.isfinite()):
            raise _diverged(state.step + 1, saved)
        state.optimizer.step()
        state.update_average(stage_step, names)
        state.step += 1
        state.pending[0] += value
        state.pending[1] += 1
        observer.stepped(state, value)

        last = state.step == total
        if last or state.step % settings.validate_every == 0:
            _record(state, valid, lr)
            if not np.isfinite(state.history["valid_loss"][-1]):
                raise _diverged(state.step, saved)
            observer.recorded(state)
        stopping = observer.stop_requested()
        if last or stopping or state.step % settings.checkpoint_every == 0:
            if not state.is_finite():
                raise _diverged(state.step, saved)
            observer.checkpoint(state)
            saved = state.step
        if stopping and not last:
            return False
    return True


def _level(model: ARCSM, stage: int) -> int:
    return stage if len(model.stages) > 1 else -1


def _begin_stage(state: TrainState, stage: int) -> None:
    """Start a stage from the averaged weights of the one before (its noise is the nearest)."""
    weights = dict(state.model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            if name.startswith(f"stages.{stage}."):
                earlier = state.average[name.replace(f"stages.{stage}.", f"stages.{stage - 1}.", 1)]
                value.copy_(earlier)
                state.average[name].copy_(earlier)


def _record(state: TrainState, valid: Dataset, lr: float) -> None:
    """Append the mean loss since the last record and the held-out loss to the history."""
    mean = state.pending[0] / max(1.0, state.pending[1])
    state.pending = [0.0, 0.0]
    stage = (state.step - 1) // state.settings.steps
    values = (state.step, mean, validation_loss(state, valid, stage), lr)
    for name, value in zip(("step", "loss", "valid_loss", "lr"), values, strict=True):
        state.history[name].append(float(value))


@torch.no_grad()
def validation_loss(state: TrainState, valid: Dataset, stage: int = 0) -> float:
    """Return the objective per dimension of the averaged weights on held-out data.

    The same examples and noise every time, so that curves show the model and not the draw.
    """
    model = state.averaged_model()
    objective = OBJECTIVES[state.settings.objective]
    generator = generator_for(state.settings.seed, _VALIDATION, 0, model.mean.device)
    total, count = 0.0, 0
    size = state.settings.batch_size
    examples = valid.limit(_VALIDATION_EXAMPLES)
    for x in examples.batches(size):
        rows = model.sort(x.to(model.mean.device))
        batch = perturb(model, rows, generator, level=_level(model, stage))
        total += float(objective(model, batch)) * len(x)
        count += len(x)
    return total / count / model.config.dimensions


def _diverged(step: int, saved: int) -> DivergedError:
    kept = f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was written yet"
    return DivergedError(
        f"training diverged at step {step} (the loss is not finite); {kept}; lower --lr"
    )
