"""Times one method in one dimension, in a process of its own.

Sends the number of weights when it is ready, and after each iteration its seconds and the peak of
memory within it, in bytes beyond what was held before the first one. An iteration is the loss of a
batch, its gradient, and a step of Adam. On the CPU seconds are those of processor time on one
thread, so that other work on the machine matters little; elsewhere they are of the clock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn

from arcsm_cli.comparisons.fields import (
    ConditionalField,
    EnergyField,
    conditional_config,
    energy_width,
)
from arcsm_cli.comparisons.memory import peak, reset_peak, resident
from arcsm_cli.comparisons.objectives import Objective


def field_of(method: str, dimensions: int) -> nn.Module:
    """Return what a method trains: the AR-CSM, or an energy of about as many weights."""
    conditional = ConditionalField(conditional_config(dimensions))
    if method.startswith("csm"):
        return conditional
    weights = sum(p.numel() for p in conditional.parameters())
    return EnergyField(dimensions, energy_width(dimensions, weights))


def loss_of(method: str, field: Any, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a method's loss of a batch.

    Methods named after a network alone ask for its value and no derivative of it: what a forward
    and a backward pass cost whatever the objective.
    """
    if method == "csm network":
        model = field.model
        s: Tensor = model.score(x, model.contexts(x), x.new_zeros(()))
        return s.square().sum(1).mean()
    if method == "energy network":
        e: Tensor = field.energy(x).mean()
        return e
    sigma = 0.1 if method == "dsm" else 0.0
    return Objective(method, sigma=sigma)(field, x, generator).mean()


def work(channel: Connection, wanted: dict[str, Any]) -> None:
    """Send what the module's first lines say, then ``None`` or, out of memory, ``memory``."""
    # What asked for this process ends it; signals to the whole group are not for it.
    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    for number in endings:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    # Who asked may be gone, and with it all interest in the answer.
    with contextlib.suppress(BrokenPipeError):
        try:
            _iterate(channel, wanted)
        except (MemoryError, RuntimeError) as error:  # PyTorch's are runtime errors
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            channel.send("memory")
        else:
            channel.send(None)


def _iterate(channel: Connection, wanted: dict[str, Any]) -> None:
    device = torch.device(wanted["device"])
    torch.set_num_threads(1)
    torch.manual_seed(wanted["seed"])
    generator = torch.Generator(device).manual_seed(wanted["seed"])
    if device.type == "cuda":
        share = wanted["memory_limit"] / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    field = field_of(wanted["method"], wanted["dimensions"]).to(device)
    optimizer = torch.optim.Adam(field.parameters(), fused=device.type in ("cpu", "cuda"))
    channel.send({"weights": sum(p.numel() for p in field.parameters())})
    before = _held(device)
    shape = (wanted["batch_size"], wanted["dimensions"])
    for _ in range(wanted["iterations"]):
        x = torch.randn(shape, device=device, generator=generator)
        _reset(device)
        start = _clock(device)
        optimizer.zero_grad(set_to_none=True)
        loss_of(wanted["method"], field, x, generator).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds = _clock(device) - start
        channel.send({"seconds": seconds, "memory": max(0, _peak(device) - before)})


def _clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    getattr(torch, device.type).synchronize()
    return time.perf_counter()


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident(os.getpid())


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak()
