"""Models trained for equal CPU time on the same noisy data: what `two_d.py` and `bsds.py` share.

All with Adam, a cosine schedule and averaged weights, on one thread. A likelihood in nats, of data
with noise of the last level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import zuko
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import Follower
from arcsm_cli.training.state import TrainState

PROBE, SHARE = 50, 0.05  # steps, and part of the budget, that tell how many fit

# Objective and control variate by the names of the comparisons.
SCORES = {"csm": ("csm", "none"), "csm-cv": ("csm", "auto"), "dsm": ("dsm", "auto")}
FLOWS: dict[str, Any] = {"maf": zuko.flows.MAF, "nsf": zuko.flows.NSF}


class Found(NamedTuple):
    """What a model came to: nats of each held-out example (N,), higher is better, and its cost."""

    nats: Tensor
    weights: int
    steps: int
    seconds: float


def within(budget: float, run: Callable[[int], Any], probe: int = PROBE) -> tuple[Any, float]:
    """Run with as many steps as fit into ``budget`` seconds of CPU time; return that time too."""
    start, least = time.process_time(), probe
    for _ in range(2):  # the first steps of a process are slower: the second time tells
        begun = time.process_time()
        run(probe)
        per_step = (time.process_time() - begun) / probe
        probe = max(least, int(SHARE * budget / per_step))
    left = budget - (time.process_time() - start)
    found = run(max(least, int(left / per_step)))
    return found, time.process_time() - start


def autoregressive(
    data: Dataset,
    x: Batch | Tensor,
    choices: Choices,
    settings: dict[str, Any],
    budget: float,
    given: Conditions = (),
) -> Found:
    """Train a model of ours; x (N, D) are held-out examples in file units, with their noise."""
    config: ModelConfig = model_config(data, choices, given)

    def run(steps: int) -> TrainState:
        every = {"validate_every": steps, "checkpoint_every": steps}
        state = fresh_state(config, TrainSettings(steps=steps, **every, **settings), "cpu")
        train(state, data, data.limit(settings["batch_size"]), Follower())
        return state

    state, seconds = within(budget, run)
    model = state.averaged_model()
    with torch.no_grad():
        parts = [
            log_likelihood(model, part.holding(model.sort(part.x))).sum(1) for part in _parts(x)
        ]
    nats = torch.cat(parts) - model.units.log_scale
    return Found(nats, sum(p.numel() for p in model.parameters()), state.step, seconds)


def flow(
    data: Dataset,
    x: Batch | Tensor,
    kind: str,
    shape: dict[str, Any],
    scaling: tuple[Tensor, Tensor],
    sigma: float,
    settings: dict[str, Any],
    budget: float,
) -> Found:
    """Train one of zuko's flows on (data - shift) / scale plus noise of sigma.

    It is told what is given of examples, if anything is.
    """
    shift, scale = scaling
    examples = data.rows(0, len(data))
    values = ((examples.x - shift) / scale).float()
    told = examples.given.shape[1]

    def run(steps: int) -> tuple[torch.nn.Module, int]:
        torch.manual_seed(settings["seed"])
        model = FLOWS[kind](features=values.shape[1], context=told, **shape)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"], fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        average = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
        )
        for _ in range(steps):
            rows = torch.randint(len(values), (settings["batch_size"],))
            batch, known = values[rows], examples.given[rows] if told else None
            loss = -model(known).log_prob(batch + sigma * torch.randn_like(batch)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            # As ours, whose norm that is clipped is of the loss per dimension.
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0 * values.shape[1])
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
        return average.module.eval(), steps

    (model, steps), seconds = within(budget, run)
    with torch.no_grad():
        parts = [
            model(part.given if told else None).log_prob(((part.x - shift) / scale).float())
            for part in _parts(x)
        ]
        nats = torch.cat(parts)
    nats = nats - scale.log().expand(values.shape[1]).sum()
    return Found(nats, sum(p.numel() for p in model.parameters()), steps, seconds)


def _parts(x: Batch | Tensor) -> Iterator[Batch]:
    batch = Batch.of(x)
    return (batch.rows(slice(i, i + 256)) for i in range(0, batch.size, 256))
