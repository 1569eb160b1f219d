"""AR-CSM beside a neural spline flow on the two-dimensional sets: ``python two_d.py --help``.

Same data (plus fresh noise of sigma 0.05 each time), same held-out points, about as many weights,
the same CPU time and batch size; see `equal_time.py`. --models may name likelihoods too, of MADE
trained by them. Prints a line for each set, seed and model:
held-out nats of the perturbed density, lower is better; with --output each point's nats too.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from equal_time import SCORES, Found, autoregressive, flow
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.densities import has_density, log_density
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.plugins import load_plugin
from arcsm_cli.registry import LIKELIHOODS
from arcsm_cli.training.configure import Choices

SETS = ("rings", "moons", "spirals", "checkerboard", "pinwheel", "8gaussians", "swissroll")
SIGMA, BATCH, MEASURED = 0.05, 512, 4000


def trained(data: Dataset, x: Tensor, model: str, options: argparse.Namespace, seed: int) -> Found:
    """Train a model by the name of the comparison; x are the held-out points with their noise."""
    settings = {"batch_size": BATCH, "seed": seed}
    if model == "nsf":  # three transforms of 8 bins, 2 x 64 hidden units
        shape = {"transforms": 3, "bins": 8, "hidden_features": (64, 64)}
        still = torch.zeros(2), torch.ones(2)
        settings |= {"lr": options.flow_lr}
        return flow(data, x, model, shape, still, SIGMA, settings, options.seconds)
    if model in LIKELIHOODS:
        choices = Choices(objective="mle", likelihood=model, sigma_min=SIGMA)
        settings |= {"lr": options.lr, "objective": "mle"}
        return autoregressive(data, x, choices, settings, options.seconds)
    objective, variate = SCORES[model]
    layers = tuple(map(int, options.hidden.split(",")))
    unit = {"frames": options.frames, "score_input": options.score_input}
    choices = Choices(sigma_min=SIGMA, score_hidden=layers, **unit)
    settings |= {"lr": options.lr, "objective": objective, "control_variate": variate}
    return autoregressive(data, x, choices, settings, options.seconds)


def main() -> None:
    """Run the comparison and print it as it goes; with --output also as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds a model")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--hidden", default="64,64,64", help="score network of the AR-CSM")
    parser.add_argument("--score-input", default="spread")
    parser.add_argument("--frames", default="none")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--flow-lr", type=float, default=2e-3)
    parser.add_argument("--models", default="csm,csm-cv,dsm,nsf")
    parser.add_argument("--plugin", help="a file whose likelihoods --models may name")
    parser.add_argument("--valid", action="store_true", help="measure on held-out training points")
    parser.add_argument("--output", type=Path)
    parser.add_argument("sets", nargs="*", default=SETS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.plugin:
        load_plugin(options.plugin)
    for name in options.sets:
        data = load_data(name, DataOptions(), default_split="train")
        if options.valid:
            values = data.take(torch.arange(len(data)))
            data, clean = Dataset(name, values[:-MEASURED]), values[-MEASURED:]
        else:
            test = load_data(name, DataOptions(), default_split="test")
            clean = test.take(torch.arange(len(test)))
        x = clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        truth = -float(log_density(name, x, SIGMA).mean()) if has_density(name) else None
        for seed in range(options.seeds):
            for model in options.models.split(","):
                found = trained(data, x, model, options, seed)
                nats = -found.nats
                row = {"set": name, "truth": truth, "seed": seed, "model": model}
                row |= {"nats": float(nats.mean()), "se": float(nats.std() / math.sqrt(len(nats)))}
                row |= {"weights": found.weights, "steps": found.steps, "seconds": found.seconds}
                print(json.dumps(row), flush=True)
                if options.output:
                    row["each"] = nats.tolist()
                    with open(options.output, "a") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
