"""Density estimation of image patches beside flows and mixtures: ``python bsds.py --help``.

The 63-dimensional patches of BSDS300 (Uria et al. 2013; Papamakarios et al. 2017), as .npy files in
one folder: bsds-train.npy, bsds-valid.npy, bsds-test.npy. Each model sees them standardised, with
noise of 0.01 of that scale; nats are of such noisy patches, in the files' units, higher is better.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_time import FLOWS, SCORES, Found, autoregressive, flow
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.training.configure import Choices

SIGMA, BATCH, UNITS = 0.01, 256, (256, 256)
MADES = {"made-1": ("gaussian", None), "made-10": ("logistic-mixture", 10)}


def patches(folder: Path, part: str, count: int) -> Tensor:
    """Return the first examples of a file, (N, 63)."""
    return torch.from_numpy(np.load(folder / f"bsds-{part}.npy", mmap_mode="r")[:count].copy())


def noisy(x: Tensor, scale: Tensor) -> Tensor:
    """Return patches with the noise of the last level, the same whenever they are measured."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x + SIGMA * scale * noise


def trained(
    values: Tensor, x: Tensor, scaling: tuple[Tensor, Tensor], options: argparse.Namespace
) -> Found:
    """Train the model that the options name; x are the held-out patches with their noise."""
    data = Dataset("bsds", values)
    settings: dict[str, Any] = {"batch_size": BATCH, "seed": options.seed, "lr": options.lr}
    settings |= {"draws": options.draws} if options.model in SCORES else {}
    if options.model in FLOWS:
        shape: dict[str, Any] = {"transforms": options.transforms, "hidden_features": UNITS}
        shape |= {"bins": 8} if options.model == "nsf" else {}
        return flow(data, x, options.model, shape, scaling, SIGMA, settings, options.seconds)
    units = tuple(map(int, options.units.split(",")))
    common: dict[str, Any] = {"sigma_min": SIGMA, "standardize": True, "hidden": units}
    common |= {"residual": True} if options.residual else {}
    if options.model in MADES:
        likelihood, components = MADES[options.model]
        common |= {"likelihood": likelihood, "components": components, "objective": "mle"}
        settings |= {"objective": "mle"}
    else:
        objective, variate = SCORES[options.model]
        layers = tuple(map(int, options.score_hidden.split(",")))
        common |= {"score_hidden": layers, "context_width": options.context_width}
        common |= {"frames": options.frames, "score_input": options.score_input}
        settings |= {"objective": objective, "control_variate": variate}
    return autoregressive(data, x, Choices(**common), settings, options.seconds)


def main() -> None:
    """Train one model and print a line; with --output append it to a file, with all nats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=(*SCORES, *MADES, *FLOWS))
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU seconds")
    parser.add_argument("--train", type=int, default=100_000, help="patches to train on")
    parser.add_argument("--measure", type=int, default=2000, help="patches to measure on")
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--draws", type=int, default=1, help="noise draws of a score model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score-input", default="spread")
    parser.add_argument("--frames", default="linear")
    parser.add_argument("--context-width", type=int, default=8)
    parser.add_argument("--score-hidden", default="24,24")
    parser.add_argument("--units", default="256,256", help="hidden layers of the contexts")
    parser.add_argument("--residual", action="store_true", help="residual layers of contexts")
    parser.add_argument("--transforms", type=int, default=5, help="of a flow")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    values = patches(options.folder, "train", options.train)
    scaling = values.mean(0), values.std(0)
    held_out = [patches(options.folder, part, options.measure) for part in ("valid", "test")]
    found = trained(values, noisy(torch.cat(held_out), scaling[1]), scaling, options)
    row = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    each = dict(zip(("valid", "test"), found.nats.chunk(2), strict=True))
    for part, nats in each.items():
        row |= {part: float(nats.mean()), f"{part}_se": float(nats.std() / math.sqrt(len(nats)))}
    row |= {"weights": found.weights, "steps": found.steps, "cpu": found.seconds}
    print(json.dumps(row), flush=True)
    if options.output:
        with open(options.output, "a") as file:
            file.write(json.dumps(row | {"each": {k: v.tolist() for k, v in each.items()}}) + "\n")


if __name__ == "__main__":
    main()
