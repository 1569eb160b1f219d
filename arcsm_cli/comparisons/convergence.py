"""How fast each objective finds the score of ``gaussian:D`` (the paper's figure 2).

csm trains an AR-CSM, whose truth is the conditional score; ssm and dsm train an energy of about as
many weights, whose truth is the score of the joint. Two of ssm train the AR-CSM as well, which
tells what is the objective's doing and what the network's. Errors are relative: the mean squared
distance from the truth over the mean square of the truth, on held-out points without noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.comparisons.fields import (
    ConditionalField,
    EnergyField,
    conditional_config,
    energy_width,
)
from arcsm_cli.comparisons.fit import fit
from arcsm_cli.comparisons.objectives import objectives
from arcsm_cli.comparisons.tables import Columns, Record, Track, deviation, distinct, where
from arcsm_cli.data.twod import GAUSSIAN_CORRELATION, gaussian_covariance, load_gaussian


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        seeds: repeats; of weights, batches and draws.
        dims: D, one or more.
        sigmas: noise of dsm.
        projections: of ssm.
        steps: optimizer steps.
        batch_size: examples a step.
        lr: learning rate of Adam.
        device: where.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    dims: tuple[int, ...] = (100,)
    sigmas: tuple[float, ...] = (0.01, 0.1, 0.5)
    projections: tuple[int, ...] = (1, 10)
    steps: int = 2000
    batch_size: int = 128
    lr: float = 3e-3
    device: str = "cpu"


QUICK = Settings(seeds=(0, 1), dims=(20,), projections=(1,), steps=300)

ON_AR_CSM = ", AR-CSM"
"""What names a method that trains an AR-CSM by another objective than csm."""

_POINTS, _HELD_OUT = 30, 1000


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the table ``curves``: the relative error of each method and seed over its steps.

    ``method`` is the objective's label, with `ON_AR_CSM` where csm's network is trained by another.
    """
    free = objectives(("csm", "ssm", "ssm-vr", "dsm"), settings.sigmas, settings.projections)
    controls = objectives(("ssm", "ssm-vr"), (), settings.projections[:1])
    methods = [(m, m.name == "csm", m.label) for m in free]
    methods += [(m, True, m.label + ON_AR_CSM) for m in controls]
    jobs = [(s, d, m) for s in settings.seeds for d in settings.dims for m in methods]
    records: list[Record] = []
    for seed, dimensions, (objective, autoregressive, label) in track(jobs):
        torch.manual_seed(seed)
        conditional = ConditionalField(conditional_config(dimensions))
        weights = sum(p.numel() for p in conditional.parameters())
        field: torch.nn.Module = conditional
        if not autoregressive:
            field = EnergyField(dimensions, energy_width(dimensions, weights))
            weights = sum(p.numel() for p in field.parameters())
        field = field.to(settings.device)
        data = load_gaussian(dimensions, "train").values
        held_out = load_gaussian(dimensions, "test").values[:_HELD_OUT].to(settings.device)
        truth = conditional_score if autoregressive else joint_score

        def batch_of(rows: torch.Generator, data: Tensor = data) -> Tensor:
            return data[torch.randint(len(data), (settings.batch_size,), generator=rows)]

        measured = fit(
            field,
            objective,
            batch_of,
            steps=settings.steps,
            lr=settings.lr,
            seed=seed,
            points=_POINTS,
        )
        records += [
            {
                "method": label,
                "dims": dimensions,
                "seed": seed,
                "weights": weights,
                "step": step,
                "error": relative_error(field, held_out, truth(held_out)),
            }
            for step in measured
        ]
    return {"curves": records}


def joint_score(x: Tensor) -> Tensor:
    """Return the score of ``gaussian:D`` at x (B, D): -x times the inverse covariance."""
    s: Tensor = -torch.linalg.solve(gaussian_covariance(x.shape[1]).to(x), x.T).T
    return s


def conditional_score(x: Tensor) -> Tensor:
    """Return d/dx_d log p(x_d | x_<d) of ``gaussian:D``, a first-order recursion, at x (B, D)."""
    r = GAUSSIAN_CORRELATION
    rest = -(x[:, 1:] - r * x[:, :-1]) / (1 - r * r)
    return torch.cat([-x[:, :1], rest], 1)


def relative_error(field: torch.nn.Module, x: Tensor, truth: Tensor) -> float:
    """Return the mean squared error of a field at x over the mean square of the truth."""
    s = field(x.clone()).detach()
    return float((s - truth).square().sum() / truth.square().sum())


def final(table: Columns, method: str, dimensions: float, figure: str = "error") -> list[float]:
    """Return each seed's last figure; NaN where a training broke off."""
    rows = where(table, method=method, dims=dimensions)
    last = float(table["step"].max())
    ends = (where(rows, seed=seed, step=last)[figure] for seed in distinct(rows["seed"]))
    return [float(end[0]) if len(end) else float("nan") for end in ends]


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: each method's error at the end, and its spread over seeds."""
    table = tables["curves"]
    rows: list[Record] = []
    for dimensions in distinct(table["dims"]):
        for method in distinct(table["method"]):
            errors = final(table, method, dimensions)
            best = float(where(table, method=method, dims=dimensions)["error"].min())
            row: Record = {"method": method, "dims": dimensions, "error": float(np.mean(errors))}
            rows.append(row | {"sd": deviation(errors), "best": best})
    return {"errors": rows}


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return each method's mean error at the end, by ``error/METHOD/D``."""
    return {
        f"error/{row['method']}/{float(row['dims']):g}": float(row["error"])
        for row in shown(tables)["errors"]
    }
