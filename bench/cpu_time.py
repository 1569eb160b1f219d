"""A training's steps while CPU time lasts: what `ood_baselines.py` and `dncnn.py` share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

_WARM = 50  # steps in which the rate rises


def train_within(
    seconds: float,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[int], Tensor],
    *,
    clip: float = math.inf,
) -> int:
    """Take steps until a CPU time is over, the rate rising and then falling to zero.

    Arguments:
        optimizer: with its peak rate.
        loss_of: a function of the step, from 0 on, to its loss.
        clip: the largest norm of a gradient.

    Returns:
        The number of steps.
    """
    peak = optimizer.param_groups[0]["lr"]
    start, step = time.process_time(), 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / _WARM)
            group["lr"] = peak * warm * (0.5 + 0.5 * math.cos(math.pi * share))
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}: {float(loss.detach()):.5f}", flush=True)
    return step
