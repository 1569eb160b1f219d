"""Conditional models of a table beside a conditional spline flow: ``python tables.py --help``.

The other columns given those of --given, and without: an AR-CSM with its defaults and zuko's neural
spline flow, standardised alike and with the same noise, on the same rows and for the same CPU time;
see `equal_time.py`. Prints a line for each table, seed and model: nats of the noisy test rows,
lower is better, and their standard error.
"""

from __future__ import annotations

import argparse
import json
import math

import torch
from equal_time import Found, autoregressive, flow

from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.given import conditions_of, told
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.training.configure import Choices
from arcsm_cli.training.scaling import scaling_of

SIGMA, BATCH = 0.05, 128


def found_of(
    train: Dataset, test: Dataset, given: Conditions, model: str, options: argparse.Namespace
) -> Found:
    """Train a model by its name on all but the test rows."""
    shift, scale = (torch.tensor(t) for t in scaling_of(train, standardize=True)[:2])
    held_out = test.rows(0, len(test))
    noise = torch.randn(held_out.x.shape, generator=torch.Generator().manual_seed(1))
    held_out = held_out.holding(held_out.x + SIGMA * scale * noise)
    settings = {"batch_size": BATCH, "seed": options.seed}
    if model == "nsf":
        shape = {"transforms": 3, "bins": 8, "hidden_features": (64, 64)}
        settings |= {"lr": options.flow_lr}
        standard = shift.float(), scale.float()
        return flow(train, held_out, model, shape, standard, SIGMA, settings, options.seconds)
    choices = Choices(sigma_min=SIGMA, standardize=True)
    settings |= {"lr": options.lr}
    return autoregressive(train, held_out, choices, settings, options.seconds, given)


def main() -> None:
    """Run the comparison and print it as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--given", default="quality")
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU seconds a model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--flow-lr", type=float, default=1e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for table in options.tables:
        asked = DataOptions(given=options.given)
        train, valid = load_training(table, asked)[:2]
        given = conditions_of(train, valid)
        test = load_data(f"{table}:test", DataOptions(), default_split="test", given=given)
        plain = Dataset(test.name, test.values, columns=test.columns)
        for name, parts in {
            options.given: (told(train, given), test, given),
            "nothing": (train, plain, ()),
        }.items():
            for model in ("csm", "nsf"):
                found = found_of(*parts, model, options)
                row = {"table": table, "rows": len(train), "given": name, "model": model}
                nats = -found.nats.double()
                row |= {"nats": float(nats.mean()), "se": float(nats.std() / math.sqrt(len(nats)))}
                row |= {"weights": found.weights, "steps": found.steps, "seconds": found.seconds}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
