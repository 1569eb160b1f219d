"""Variance of each objective at fixed weights over repeated draws (the paper's figure 1b).

All objectives are of one AR-CSM on ``gaussian:D``, after a hundred steps of csm: for its field csm,
sm and both kinds of ssm have the same expectation, so that their variances compare as they are.
(dsm's differs by a constant, and by its noise.) Variances are over what an objective draws itself,
given the batch, and over batches as well. Those of gradients are in units of the exact gradient,
csm's on the first 10,000 training points: a mean of draws would itself be mostly noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.comparisons.fields import ConditionalField, conditional_config
from arcsm_cli.comparisons.fit import fit
from arcsm_cli.comparisons.objectives import Objective, objectives
from arcsm_cli.comparisons.tables import Columns, Record, Track, distinct, where
from arcsm_cli.data.twod import load_gaussian

_OVER = ("draws", "batches")
_MANY, _AT_ONCE = 10_000, 500  # points of the exact gradient, and of a part of it


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: repeats; of weights, data and draws.
        dims: D.
        sigmas: noise of dsm.
        projections: of ssm.
        steps: draws that a variance is taken over.
        batch_size: examples a batch.
        device: where.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    dims: tuple[int, ...] = (10, 50, 100, 200, 400)
    sigmas: tuple[float, ...] = (0.01, 0.1, 1.0)
    projections: tuple[int, ...] = (1, 10)
    steps: int = 100
    batch_size: int = 100
    device: str = "cpu"


QUICK = Settings(seeds=(0, 1), dims=(10, 50, 100), steps=20)


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the table ``draws``: of each objective the loss and the gradient of every draw.

    ``over`` says what changed from draw to draw: the objective's own ``draws`` alone, or
    ``batches`` too. ``loss`` is a batch's mean, per dimension; ``gradient`` the squared norm of its
    gradient's deviation from the mean over the draws, relative to the exact gradient's.
    """
    methods = objectives(("csm", "ssm-vr", "ssm", "dsm"), settings.sigmas, settings.projections)
    records: list[Record] = []
    for seed, dimensions in track([(s, d) for s in settings.seeds for d in settings.dims]):
        torch.manual_seed(seed)
        field = ConditionalField(conditional_config(dimensions)).to(settings.device)
        data = load_gaussian(dimensions, "train").values
        _learn(field, data, settings.batch_size, seed)
        unit = _exact(field, data.to(settings.device))
        for objective in methods:
            for over in _OVER:
                losses, noise = _draws(settings, objective, field, data, seed, over)
                records += [
                    {
                        "method": objective.label,
                        "dims": dimensions,
                        "seed": seed,
                        "over": over,
                        "draw": i,
                        "loss": loss / dimensions,
                        "gradient": part / unit,
                    }
                    for i, (loss, part) in enumerate(zip(losses, noise, strict=True))
                ]
    return {"draws": records}


def _learn(field: ConditionalField, data: Tensor, batch_size: int, seed: int) -> None:
    """Train a little: fresh weights know of no correlations, and hardly any noise shows there."""

    def batch_of(rows: torch.Generator) -> Tensor:
        return data[torch.randint(len(data), (batch_size,), generator=rows)]

    for _ in fit(field, Objective("csm"), batch_of, steps=100, lr=3e-3, seed=seed, points=1):
        pass


def _exact(field: ConditionalField, data: Tensor) -> float:
    """Return the squared norm of the gradient of csm, which draws nothing, on many points."""
    parts = torch.split(data[:_MANY], _AT_ONCE)
    own = torch.Generator(data.device)
    losses = (Objective("csm")(field, part, own).sum() for part in parts)
    total = sum(_gradient(field, loss).double() for loss in losses)
    return float((torch.as_tensor(total) / _MANY).square().sum())


def _gradient(field: ConditionalField, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(field.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None]).cpu()


def _draws(
    settings: Settings,
    objective: Objective,
    field: ConditionalField,
    data: Tensor,
    seed: int,
    over: str,
) -> tuple[list[float], list[float]]:
    """Return the losses of all draws, and each gradient's squared distance from their mean."""
    own = torch.Generator(settings.device).manual_seed(seed)
    rows = torch.Generator().manual_seed(seed)
    losses, gradients = [], []
    x = data[torch.randperm(len(data), generator=rows)[: settings.batch_size]]
    for _ in range(settings.steps):
        if over == "batches":
            x = data[torch.randperm(len(data), generator=rows)[: settings.batch_size]]
        loss = objective(field, x.to(settings.device), own).mean()
        losses.append(float(loss.detach()))
        gradients.append(_gradient(field, loss))
    # In float64 sums of equal float32 numbers are exact: what does not vary comes out as 0.
    mean = torch.zeros_like(gradients[0], dtype=torch.float64)
    for gradient in gradients:
        mean += gradient
    mean /= len(gradients)
    return losses, [float((g - mean).square().sum()) for g in gradients]


def variances(table: Columns, method: str, over: str, figure: str) -> dict[int, list[float]]:
    """Return by D each seed's variance of the loss, or relative variance of the gradient."""
    rows = where(table, method=method, over=over)
    found: dict[int, list[float]] = {}
    for d in sorted(set(rows["dims"].tolist())):
        for seed in distinct(rows["seed"]):
            values = where(rows, dims=d, seed=seed)[figure]
            n = len(values)
            # Equal losses must give 0, not the rounding of their mean.
            spread = (values - values[0]).var(ddof=1)
            value = spread if figure == "loss" else values.sum() / (n - 1)
            found.setdefault(int(d), []).append(float(value))
    return found


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return at the largest D the mean over seeds of each variance, by ``FIGURE/OVER/METHOD``."""
    table = tables["draws"]
    figures = {}
    for figure in ("loss", "gradient"):
        for over in _OVER:
            for method in distinct(table["method"]):
                found = variances(table, method, over, figure)
                figures[f"{figure}/{over}/{method}"] = float(np.mean(found[max(found)]))
    return figures


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: each method's variances by D."""
    table = tables["draws"]
    rows: list[Record] = []
    for method in distinct(table["method"]):
        found = {
            f"{figure} over {over}": variances(table, method, over, figure)
            for figure in ("loss", "gradient")
            for over in _OVER
        }
        for d in next(iter(found.values())):
            row: Record = {"method": method, "dims": d}
            rows.append(row | {k: float(np.mean(v[d])) for k, v in found.items()})
    return {"variances": rows}
