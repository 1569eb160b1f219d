"""Conditional models of a table beside a conditional spline flow: ``python tables.py --help``.

The other columns given those of --given, and without: an AR-CSM with its defaults and zuko's neural
spline flow, standardised alike and with the same noise, on the same rows and for the same CPU
times, of which the best on the held-out rows is taken: tables are small, and both soon know them by
heart. Prints a line for each model and time: nats of the noisy test rows, lower is better, and
their standard error; see `equal_time.py`.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace

import torch
from equal_time import Found, autoregressive, flow

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.given import conditions_of, told
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.training.configure import Choices
from arcsm_cli.training.scaling import scaling_of

SIGMA, BATCH = 0.05, 128


def joined(train: Dataset, valid: Dataset, test: Dataset) -> Batch:
    """Return the rows to be measured, first the held-out ones, with their noise."""
    _, scale, *_ = scaling_of(train, standardize=True)
    parts = [part.rows(0, len(part)) for part in (valid, test)]
    x = torch.cat([part.x for part in parts])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return Batch(x + SIGMA * torch.tensor(scale) * noise, torch.cat([p.given for p in parts]))


def found_of(
    train: Dataset,
    measured: Batch,
    given: Conditions,
    model: str,
    options: argparse.Namespace,
    seconds: float,
) -> Found:
    """Train a model by its name for so many seconds."""
    settings = {"batch_size": BATCH, "seed": options.seed}
    if model == "nsf":
        shape = {"transforms": 3, "bins": 8, "hidden_features": (64, 64)}
        shift, scale, *_ = scaling_of(train, standardize=True)
        standard = torch.tensor(shift), torch.tensor(scale)
        settings |= {"lr": options.flow_lr}
        return flow(train, measured, model, shape, standard, SIGMA, settings, seconds)
    choices = Choices(sigma_min=SIGMA, standardize=True)
    settings |= {"lr": options.lr}
    return autoregressive(train, measured, choices, settings, seconds, given)


def main() -> None:
    """Run the comparison and print it as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--given", default="quality")
    parser.add_argument("--seconds", default="2,6,18", help="CPU seconds a model, to choose from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--flow-lr", type=float, default=1e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for table in options.tables:
        train, valid = load_training(table, DataOptions(given=options.given))[:2]
        given = conditions_of(train, valid)
        test = load_data(f"{table}:test", DataOptions(), default_split="test", given=given)
        for name, known in {options.given: given, "nothing": ()}.items():
            parts = [replace(told(part, known), beside=()) for part in (train, valid)]
            last = test if known else replace(test, given=None)
            measured = joined(*parts, last)
            for model in ("csm", "nsf"):
                rows = []
                for seconds in map(float, options.seconds.split(",")):
                    found = found_of(parts[0], measured, known, model, options, seconds)
                    nats = -found.nats.double()
                    row = {"table": table, "rows": len(train), "given": name, "model": model}
                    row |= {"valid": float(nats[: len(valid)].mean())}
                    of_test = nats[len(valid) :]
                    row |= {"nats": float(of_test.mean())}
                    row |= {"se": float(of_test.std() / math.sqrt(len(of_test)))}
                    row |= {"weights": found.weights, "steps": found.steps}
                    rows.append(row | {"seconds": found.seconds})
                    print(json.dumps(rows[-1]), flush=True)
                best = min(rows, key=lambda row: row["valid"])
                print(json.dumps({"best": True} | best), flush=True)


if __name__ == "__main__":
    main()
