"""What a run would be, found out from its first steps (``--dry-run``)."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from arcsm_cli.data.dataset import Rows
from arcsm_cli.training.loop import Observer, train
from arcsm_cli.training.state import TrainState

STEPS = 10
"""Steps that are timed, after one more that is not: the first one sets things up."""


class _Clock(Observer):
    """An observer of the training loop that times steps and ends it; it keeps nothing."""

    def __init__(self, device: torch.device, stop: Callable[[], bool]) -> None:
        self._device, self._stop = device, stop
        self.times: list[float] = []

    def stepped(self, state: TrainState, loss: float) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.times.append(time.perf_counter())

    def stop_requested(self) -> bool:
        return len(self.times) > STEPS or self._stop()


def rehearse(
    state: TrainState, data: Rows, valid: Rows, stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Run the next steps of a run for nothing, and return what it would take.

    The state is spent: it must neither be saved nor trained on.

    Arguments:
        data, valid: training and held-out examples.
        stop: polled after every step.

    Returns:
        What ``--dry-run`` prints; None if it was stopped, or there are not two steps left to time.
    """
    settings, first = state.settings, state.step
    total = settings.steps * state.task.stages(state.model)
    device = next(state.model.parameters()).device
    clock = _Clock(device, stop)
    train(state, data, valid, clock)
    taken = len(clock.times) - 1
    if taken < 1 or stop():
        return None
    second = (clock.times[-1] - clock.times[0]) / taken
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    moments = [t for entry in state.optimizer.state.values() for t in entry.values()]
    optimizer = sum(t.numel() * t.element_size() for t in moments if torch.is_tensor(t))
    kept = [*state.average.values(), *state.best.values()]
    per_epoch = len(data) // min(settings.batch_size, len(data))
    return {
        "run": {
            "device": _name(device),
            "processes": state.ranks.size,
            "examples": len(data),
            "example": " x ".join(map(str, data.shape)),
            "batch_size": min(settings.batch_size, len(data)),
            "steps": total,
            "steps_left": total - first,
            "epochs": round(total / per_epoch, 3),
        },
        "sizes": {
            "parameters": sum(p.numel() for p in state.model.parameters()),
            "weights_mib": weights / 2**20,
            "optimizer_mib": optimizer / 2**20,
            "averages_mib": sum(t.numel() * t.element_size() for t in kept) / 2**20,
            "peak_memory_mib": _peak(device) / 2**20,
        },
        "time": {
            "steps_timed": taken,
            "seconds_a_step": second,
            "hours_left": second * (total - first) / 3600,
            "left": str(timedelta(seconds=round(second * (total - first)))),
        },
    }


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device.type}, {torch.get_num_threads()} threads"
    return f"{device}, {torch.cuda.get_device_name(device)}"


def _peak(device: torch.device) -> int:
    """Return the bytes that were held at most: of the device on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
