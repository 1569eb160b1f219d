"""The training loop: what step t does depends on the seed, t and the state, on nothing else."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Dataset, Rows, as_float, fixed_order
from arcsm_cli.errors import ArcsmError
from arcsm_cli.randomness import Draws, Purpose, generator_for, seeded
from arcsm_cli.training.batches import Batches, batches_of
from arcsm_cli.training.settings import RunSettings, TrainSettings
from arcsm_cli.training.state import TrainState

_STEPS_AHEAD = {"cpu": 1}
_STEPS_AHEAD_OF_GPU = 16
"""Steps after which figures are read at the latest: reading waits until they are computed."""

_VALIDATION_EXAMPLES, _FEWEST_VALIDATION_EXAMPLES = 2048, 256


class DivergedError(ArcsmError):
    """The loss or the weights stopped being numbers."""

    exit_code = 1


class Observer:
    """What happens around the steps: nothing here; its heirs write files and report."""

    def stepped(self, state: TrainState, loss: float) -> None:
        """After each step; the loss is the last one that was read, if not this step's."""

    def recorded(self, state: TrainState) -> None:
        """After each new entry of the history."""

    def checkpoint(self, state: TrainState) -> None:
        """When the state is to be saved; it is finite."""

    def stop_requested(self) -> bool:
        """Return whether to stop after this step."""
        return False


def train(state: TrainState, data: Rows, valid: Rows, observer: Observer) -> bool:
    """Run a training from where its state stands to its last step.

    With several ranks each takes its part of every batch, and all hold the same state; they stop
    together when any of them is asked to.

    Arguments:
        state: fresh or resumed; changed in place.
        data, valid: training and held-out examples.
        observer: is told of steps and asked whether to stop.

    Returns:
        True if the run is complete, which it is too when its patience is at an end; False if it was
        stopped early. The state was saved either way.

    Raises:
        DivergedError: if loss, gradient or weights become NaN or infinite; nothing is saved then.
    """
    settings, model, task = state.settings, state.model, state.task
    batches = batches_of(data, settings.batch_size, settings.seed, state.ranks)
    held_out = validation_set(valid, _measured(settings), noisy=task.noisy(model))
    device = next(model.parameters()).device
    ahead = _STEPS_AHEAD.get(device.type, _STEPS_AHEAD_OF_GPU)
    total = settings.steps * task.stages(model)
    saved = state.step
    unread: list[Tensor] = []
    loss: float | None = None
    going_on = state.step < total and not state.is_stalled
    # Fresh weights may be fitted to the first batch: to all of it, on every rank.
    upcoming = _on(device, batches, state.step, whole=state.step == 0) if going_on else None
    while upcoming is not None:
        stage, stage_step = divmod(state.step, settings.steps)
        if stage_step == 0 and stage > 0:
            if not settings.started_from:
                task.begin(model, state.average, stage)
            state.keep(task.trained(model, stage))
        lr = settings.learning_rate(stage_step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)

        state.optimizer.zero_grad(set_to_none=True)
        figures = _add_gradient(state, data, upcoming, stage)
        # Its way to the device passes while this step is computed.
        upcoming = _on(device, batches, state.step + 1) if state.step + 1 < total else None
        limit = settings.clip if settings.clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        state.optimizer.step()
        state.update_average(stage_step, task.trained(model, stage))
        state.update_shares()
        state.step += 1
        unread.append(torch.cat([figures, norm[None]]))

        last = upcoming is None
        recording = last or state.step % settings.validate_every == 0
        saving = last or state.step % settings.checkpoint_every == 0
        if loss is None or recording or saving or len(unread) >= ahead:
            loss = _read(state, unread, saved)
        observer.stepped(state, loss)
        if recording:
            _record(state, held_out, lr)
            if not math.isfinite(state.history["valid_loss"][-1]):
                raise _diverged(state.step, saved)
            if state.waited == 0:
                state.keep(task.trained(model, stage))
            observer.recorded(state)
            if state.is_stalled:
                upcoming, last, saving = None, True, True
        stopping = state.ranks.any(observer.stop_requested())
        if saving or stopping:
            if unread:
                loss = _read(state, unread, saved)
            if not state.is_finite():
                raise _diverged(state.step, saved)
            observer.checkpoint(state)
            saved = state.step
        if stopping and not last:
            return False
    return True


def _add_gradient(state: TrainState, data: Rows, stored: Batch, stage: int) -> Tensor:
    """Add the gradient of a step to the weights'; return what the curves name, summed over ranks.

    Every rank draws the numbers of the whole batch, which costs little, and computes its part; of
    this, part after part where gradients are accumulated.
    """
    settings, task, ranks, device = state.settings, state.task, state.ranks, stored.given.device
    generator = generator_for(settings.seed, Purpose.NOISE, state.step, device)
    batch = stored.holding(as_float(stored.x))
    prepared = task.prepare(state.model, batch, generator, settings, stage, training=True)
    fresh = state.step == 0 and not settings.started_from
    if fresh and task.fit(state.model, data, prepared, settings):
        state.begin_average()
    random, objective = Draws(generator, batch.size), task.objective(settings, training=True)
    count = settings.grad_accumulation if isinstance(settings, TrainSettings) else 1
    pieces = list(_pieces(ranks.part(batch.size), count))
    totals = []
    # Dropout draws from the process's generators. Ranks draw apart.
    index = state.step * ranks.size + ranks.rank
    with seeded(generator_for(settings.seed, Purpose.DROPOUT, index).initial_seed(), device):
        for i, piece in enumerate(pieces):
            losses = functools.partial(
                objective, state.model, prepared.rows(piece), random.part(piece)
            )
            found = state.evaluate(losses, last=i + 1 == len(pieces))
            loss, *figures = task.figures(found)
            share = (piece.stop - piece.start) / batch.size / task.unit(state.model)
            (loss * (share * ranks.size)).backward()  # gradients become the mean over ranks
            totals.append(torch.stack(figures).detach() * share)
    return torch.stack(totals).sum(0)


def _on(device: torch.device, batches: Batches, step: int, *, whole: bool = False) -> Batch:
    """Return a step's examples on a device.

    They travel as they are stored (8-bit images as bytes); to a GPU from pinned memory, which lets
    the copy go on beside the computation.
    """
    stored = batches.at(step, whole=whole)
    if device.type == "cuda":
        stored = Batch(stored.x.pin_memory(), stored.given.pin_memory())
    return stored.to(device)


def _pieces(rows: slice, count: int) -> Iterator[slice]:
    """Cut rows into at most ``count`` pieces of one size, the last one smaller."""
    size = math.ceil((rows.stop - rows.start) / count)
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def _read(state: TrainState, unread: list[Tensor], saved: int) -> float:
    """Wait for the figures of the last steps and take them into the curves; return the last loss.

    Raises:
        DivergedError: a loss or the norm of a gradient is no number.
    """
    table = torch.stack(unread)
    norms = table[:, -1].clone()  # one for all ranks
    rows = torch.cat([state.ranks.total(table[:, :-1].contiguous()), norms[:, None]], 1).tolist()
    unread.clear()
    for i, row in enumerate(rows, state.step + 1 - len(rows)):
        if not all(map(math.isfinite, row)):
            raise _diverged(i, saved)
        state.pending = [a + b for a, b in zip(state.pending, (*row[:-1], 1.0), strict=True)]
    return float(rows[-1][0])


def _record(state: TrainState, held_out: Dataset, lr: float) -> None:
    """Append the means since the last record and the held-out loss to the history."""
    *sums, count = state.pending
    state.pending = [0.0] * len(state.pending)
    stage = (state.step - 1) // state.settings.steps
    values = {"step": state.step, "valid_loss": held_out_loss(state, held_out, stage)}
    values |= {"lr": lr}
    means = (total / max(1.0, count) for total in sums)
    values |= dict(zip(state.task.curves(state.model), means, strict=True))
    for name, value in values.items():
        state.history[name].append(float(value))


def validation_loss(state: TrainState, valid: Rows, stage: int) -> float:
    """Return the loss of the averaged weights on held-out data; see `validation_set`."""
    count, noisy = _measured(state.settings), state.task.noisy(state.model)
    return held_out_loss(state, validation_set(valid, count, noisy=noisy), stage)


@torch.no_grad()
def held_out_loss(state: TrainState, held_out: Dataset, stage: int) -> float:
    """Return the loss of the averaged weights on a `validation_set`.

    The same examples and draws every time, so that curves show the model and not the draw.
    """
    model, task, settings = state.averaged_model(), state.task, state.settings
    device = next(model.parameters()).device
    generator = generator_for(settings.seed, Purpose.VALIDATION, 0, device)
    objective = task.objective(settings, training=False)
    total, seen = torch.zeros((), dtype=torch.float64), 0
    for examples in held_out.batches(settings.batch_size):
        batch = examples.to(device)
        prepared = task.prepare(model, batch, generator, settings, stage, training=False)
        part = state.ranks.part(batch.size)
        if (own := part.stop - part.start) > 0:
            random = Draws(generator, batch.size, part)
            _, loss, *_ = task.figures(objective(model, prepared.rows(part), random))
            total += float(loss) * own
        seen += batch.size
    return float(state.ranks.total(total)) / seen / task.unit(model)


def _measured(settings: RunSettings) -> int:
    """Return how many examples cost a few percent of the steps between two validations."""
    share = settings.validate_every * settings.batch_size // 8
    return min(_VALIDATION_EXAMPLES, max(_FEWEST_VALIDATION_EXAMPLES, share))


def validation_set(valid: Rows, count: int, *, noisy: bool) -> Dataset:
    """Return about ``count`` held-out examples.

    Of many a fixed draw, since files are often sorted; few of them several times if an example's
    loss is ``noisy``, so that the loss of a small set is not that of one draw of the noise.
    """
    rows = fixed_order(len(valid))[:count].sort().values
    return valid.select(rows.repeat(math.ceil(count / len(rows)) if noisy else 1))


def _diverged(step: int, saved: int) -> DivergedError:
    kept = f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was written yet"
    return DivergedError(
        f"training diverged at step {step} (the loss is not finite); {kept}; lower --lr"
    )
