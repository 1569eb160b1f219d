"""AR-CSM beside a neural spline flow on the two-dimensional sets: ``python two_d.py --help``.

Same data (plus fresh noise of sigma 0.05 each time), same held-out points, about as many weights,
the same CPU time on one thread, the same batch size; each with Adam, a cosine schedule and
averaged weights. Prints one row a set: held-out nats of the perturbed density, lower is better.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import zuko
from torch import Tensor

from arcsm_cli.data.dataset import DataOptions, Dataset
from arcsm_cli.data.densities import has_density, log_density
from arcsm_cli.data.spec import load_data
from arcsm_cli.evaluation.likelihood import flow_log_likelihood
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState

SETS = ("rings", "moons", "spirals", "checkerboard", "pinwheel", "8gaussians", "swissroll")
SIGMA, BATCH, PROBE = 0.05, 512, 150


class Silent:
    """An observer of the training loop that does nothing."""

    def stepped(self, state: TrainState, loss: float) -> None:
        """Nothing."""

    def recorded(self, state: TrainState) -> None:
        """Nothing."""

    def checkpoint(self, state: TrainState) -> None:
        """Nothing."""

    def stop_requested(self) -> bool:
        """Never."""
        return False


def within(budget: float, run: Callable[[int], object]) -> object:
    """Run with as many steps as fit into ``budget`` seconds of CPU time, the probe included."""
    start = time.process_time()
    run(PROBE)
    per_step = (time.process_time() - start) / PROBE
    return run(max(PROBE, int(budget / per_step) - PROBE))


def arcsm(
    data: Dataset, x: Tensor, objective: str, budget: float, hidden: str
) -> tuple[Tensor, int, int]:
    """Return held-out nats per point, weights and steps of an AR-CSM."""
    layers = tuple(map(int, hidden.split(",")))
    config = model_config(data, Choices(sigma_min=SIGMA, score_hidden=layers))

    def run(steps: int) -> TrainState:
        settings = TrainSettings(
            steps=steps,
            batch_size=BATCH,
            objective=objective,
            lr=5e-3,
            validate_every=steps,
            checkpoint_every=steps,
        )
        state = fresh_state(config, settings, "cpu")
        train(state, data, data.limit(BATCH), Silent())
        return state

    state = within(budget, run)
    assert isinstance(state, TrainState)
    model = state.averaged_model()
    nats = -flow_log_likelihood(model, model.sort(x)).sum(1)
    return nats, sum(p.numel() for p in model.parameters()), state.step


def spline_flow(data: Dataset, x: Tensor, budget: float, lr: float) -> tuple[Tensor, int, int]:
    """Return the same of a neural spline flow: three transforms of 8 bins, 2 x 64 hidden units."""
    values = data.take(torch.arange(len(data)))

    def run(steps: int) -> tuple[torch.nn.Module, int]:
        torch.manual_seed(0)
        flow = zuko.flows.NSF(features=2, transforms=3, bins=8, hidden_features=(64, 64))
        optimizer = torch.optim.Adam(flow.parameters(), lr=lr, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        average = torch.optim.swa_utils.AveragedModel(
            flow, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
        )
        for _ in range(steps):
            batch = values[torch.randint(len(values), (BATCH,))]
            loss = -flow().log_prob(batch + SIGMA * torch.randn_like(batch)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(flow)
        return average.module, steps

    flow, steps = within(budget, run)  # type: ignore[misc]
    with torch.no_grad():
        nats = -flow().log_prob(x)
    return nats, sum(p.numel() for p in flow.parameters()), steps


def main() -> None:
    """Run the comparison and print it as it goes; with --output also as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds a model")
    parser.add_argument("--hidden", default="80,80,80", help="score network of the AR-CSM")
    parser.add_argument("--flow-lr", type=float, default=2e-3)
    parser.add_argument("--models", default="csm,dsm,nsf")
    parser.add_argument("--output", type=Path)
    parser.add_argument("sets", nargs="*", default=SETS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        data = load_data(name, DataOptions(), default_split="train")
        test = load_data(name, DataOptions(), default_split="test")
        clean = test.take(torch.arange(len(test)))
        x = clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        row: dict[str, object] = {"set": name}
        if has_density(name):
            row["truth"] = -float(log_density(name, x, SIGMA).mean())
        results: dict[str, Tensor] = {}
        for model in options.models.split(","):
            if model == "nsf":
                found = spline_flow(data, x, options.seconds, options.flow_lr)
            else:
                found = arcsm(data, x, model, options.seconds, options.hidden)
            results[model], weights, steps = found
            row[model] = {"nats": float(found[0].mean()), "weights": weights, "steps": steps}
        if "nsf" in results:
            for model in results.keys() - {"nsf"}:
                gap = results[model] - results["nsf"]
                row[f"{model}_minus_nsf"] = float(gap.mean())
                row[f"{model}_minus_nsf_se"] = float(gap.std() / math.sqrt(len(gap)))
        line = json.dumps(row)
        print(line, flush=True)
        if options.output:
            with open(options.output, "a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
