"""A MADE with Gaussian conditionals under each objective, by its likelihood (paper, figure 3a).

Its likelihood is exact, so objectives that never see it can be followed by it. All train the same
network on data plus noise of one level and are measured on held-out data with the same noise; dsm
adds its own noise on top.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.comparisons.convergence import final
from arcsm_cli.comparisons.fields import LikelihoodField
from arcsm_cli.comparisons.fit import fit
from arcsm_cli.comparisons.held_out import train_and_test
from arcsm_cli.comparisons.objectives import objectives
from arcsm_cli.comparisons.tables import Columns, Record, Track, deviation, distinct
from arcsm_cli.data.options import DataOptions
from arcsm_cli.training.configure import Choices, model_config


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        seeds: repeats; of weights, batches and draws.
        data: what to train on; its test split is held out.
        options: where data sets are.
        noise: standard deviation of the noise that all data carry, in the model's scale.
        sigmas: further noise of dsm.
        projections: of ssm.
        steps: optimizer steps.
        batch_size: examples a step.
        lr: learning rate of Adam.
        device: where.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = "digits"
    options: DataOptions = field(default_factory=DataOptions)
    noise: float = 0.2
    sigmas: tuple[float, ...] = (0.01, 0.1, 0.3)
    projections: tuple[int, ...] = (1,)
    steps: int = 3000
    batch_size: int = 128
    lr: float = 1e-3
    device: str = "cpu"


QUICK = Settings(seeds=(0, 1), steps=200)

_POINTS, _HELD_OUT, _HIDDEN = 25, 2000, (256, 256)


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the table ``curves``: held-out nll of each method and seed over its steps, in nats."""
    names = ("mle", "csm", "ssm-vr", "ssm", "dsm")
    methods = objectives(names, settings.sigmas, settings.projections)
    data, test = train_and_test(settings.data, settings.options)
    test = test.limit(_HELD_OUT)
    choices = Choices(
        likelihood="gaussian", annealing="none", sigma_min=settings.noise, hidden=_HIDDEN
    )
    config = model_config(data, choices)
    records: list[Record] = []
    for seed, objective in track([(s, m) for s in settings.seeds for m in methods]):
        torch.manual_seed(seed)
        model = LikelihoodField(config).to(settings.device)
        clean = model.model.sort(test.take(torch.arange(len(test))))
        held_out = clean + settings.noise * _normal(clean, torch.Generator().manual_seed(0))

        def batch_of(rows: torch.Generator, model: LikelihoodField = model) -> Tensor:
            index = torch.randint(len(data), (settings.batch_size,), generator=rows)
            x = model.model.sort(data.take(index))
            return x + settings.noise * _normal(x, rows)

        measured = fit(
            model,
            objective,
            batch_of,
            steps=settings.steps,
            lr=settings.lr,
            seed=seed,
            points=_POINTS,
        )
        for step in measured:
            with torch.no_grad():
                nll = -float(model.model.log_prob(held_out).sum(1).mean())
            # One number for all D, so that results files of several data sets read alike.
            place: Record = {"method": objective.label, "dims": config.dimensions, "seed": seed}
            records.append(place | {"step": step, "nll": nll})
    return {"curves": records}


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: held-out nll at the end, and its distance from mle's."""
    table = tables["curves"]
    dimensions = float(table["dims"][0])
    ends = {m: final(table, m, dimensions, "nll") for m in distinct(table["method"])}
    best = float(np.mean(ends["mle"])) if "mle" in ends else float("nan")
    rows: list[Record] = []
    for method, nll in ends.items():
        mean = float(np.mean(nll))
        rows.append({"method": method, "nll": mean, "sd": deviation(nll), "above mle": mean - best})
    return {"likelihoods": rows}


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return each method's mean held-out nll at the end, by ``nll/METHOD``, in nats."""
    return {f"nll/{row['method']}": float(row["nll"]) for row in shown(tables)["likelihoods"]}
