"""The training loop: what step t does depends on the seed, t and the state, on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset, as_float
from arcsm_cli.errors import ArcsmError
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.dsm import dsm
from arcsm_cli.objectives.mle import mle
from arcsm_cli.objectives.noise import NoisyBatch, perturb
from arcsm_cli.training.state import TrainState

# Each takes the kind of model that `make_model` builds for its settings.
OBJECTIVES: dict[str, Callable[[Any, NoisyBatch], Tensor]] = {"csm": csm, "dsm": dsm, "mle": mle}
_VALIDATION_EXAMPLES, _FEWEST_VALIDATION_EXAMPLES = 2048, 256
# Purposes of random numbers: streams of one seed that must not meet.
_ORDER, _NOISE, _VALIDATION = range(3)
_DROPOUT = 4  # 3 is that of the initial weights


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
            generator = generator_for(self.seed, _ORDER, epoch)
            self._order = torch.randperm(len(self.data), generator=generator)
            self._epoch = epoch
        return self._order[index * self.size : (index + 1) * self.size]


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
    objective = OBJECTIVES[settings.objective]
    if settings.compile:
        objective = torch.compile(objective)
    batches = Batches(data, settings.batch_size, settings.seed)
    device = model.mean.device
    total = settings.steps * len(model.stages)
    saved = state.step
    upcoming = batches.on(device, state.step) if state.step < total else torch.empty(0)
    while state.step < total:
        stage, stage_step = divmod(state.step, settings.steps)
        if stage_step == 0 and stage > 0:
            _begin_stage(state, stage)
        names = [n for n, _ in model.named_parameters() if n.startswith(f"stages.{stage}.")]
        lr = settings.learning_rate(stage_step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr

        x = model.sort(as_float(upcoming))
        generator = generator_for(settings.seed, _NOISE, state.step, device)
        batch = perturb(model, x, generator, level=_level(model, stage), draws=settings.draws)
        if state.step == 0:
            state.initialise(batch.context_input)
        state.optimizer.zero_grad(set_to_none=True)
        loss = _gradient(state, objective, batch)
        if state.step + 1 < total:  # its way to the device passes while this step is computed
            upcoming = batches.on(device, state.step + 1)
        limit = settings.clip if settings.clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        value = float(loss)
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


def _gradient(
    state: TrainState, objective: Callable[[Any, NoisyBatch], Tensor], batch: NoisyBatch
) -> Tensor:
    """Add the gradient of the loss per dimension to the weights'; return the loss."""
    rows, dimensions = batch.context_input.shape
    settings, device = state.settings, batch.context_input.device
    total = torch.zeros((), device=device)
    # Dropout draws from the process's generator: address it, and leave no trace.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        mixed = generator_for(settings.seed, _DROPOUT, state.step).initial_seed()
        torch.manual_seed(mixed)
        for part in torch.arange(rows).chunk(settings.grad_accumulation):
            some = batch.rows(slice(int(part[0]), int(part[-1]) + 1))
            loss = objective(state.model, some) * (len(part) / rows / dimensions)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
    return total


def _level(model: AutoregressiveModel, stage: int) -> int:
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
    # As many as cost a few percent of the steps between two validations.
    share = state.settings.validate_every * size // 8
    examples = valid.limit(min(_VALIDATION_EXAMPLES, max(_FEWEST_VALIDATION_EXAMPLES, share)))
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
