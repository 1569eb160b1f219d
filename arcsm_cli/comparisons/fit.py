"""The plain training loop of the experiments: Adam on one objective, measured as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.comparisons.objectives import Objective


def fit(
    field: Any,
    objective: Objective,
    batch_of: Callable[[torch.Generator], Tensor],
    *,
    steps: int,
    lr: float,
    seed: int,
    points: int,
) -> Iterator[int]:
    """Train a field; yields the number of steps done when it is time to measure it.

    Gradients longer than ten times the running median of the last hundred are shortened to that:
    all objectives but csm and mle have draws whose gradients are huge. A loss that is no number
    ends the training, and what it left stays as it was.

    Arguments:
        field: see `arcsm_cli.comparisons.fields`.
        batch_of: draws a batch (B, D).
        steps: optimizer steps; the learning rate falls to zero along a cosine.
        seed: of batches, and of what the objective draws; the same batches for all objectives.
        points: how many times to measure: before the first step, then evenly in the square root
            of the steps, since most happens early.
    """
    device = next(field.parameters()).device
    rows = torch.Generator().manual_seed(seed)
    own = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.Adam(field.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    due = {round(steps * (i / max(1, points - 1)) ** 2) for i in range(points)}
    norms: list[float] = []
    yield 0
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = objective(field, batch_of(rows).to(device), own).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        usual = sorted(norms)[len(norms) // 2] if norms else float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(field.parameters(), 10 * usual))
        if not bool(loss.isfinite()) or not norm < float("inf"):
            return
        norms = [*norms[-99:], norm]
        optimizer.step()
        schedule.step()
        if step in due:
            yield step
