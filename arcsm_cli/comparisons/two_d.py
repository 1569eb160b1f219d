"""AR-CSM against a larger MADE with mixtures of logistics on 2-d sets (paper, figures 3b and 7).

Both describe the density of the data plus noise of one level, train for as many steps on batches
of one size, and are measured on the same held-out points: the likelihood, and the distances of
samples to the points.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.comparisons.tables import Columns, Record, Track, deviation, distinct, where
from arcsm_cli.data.densities import has_density, log_density
from arcsm_cli.data.names import TWO_DIMENSIONAL
from arcsm_cli.data.twod import load_points
from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.evaluation.sample_metrics import energy_distance, sliced_wasserstein
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import train_silently

SIGMA = 0.05
"""Noise of the density that is compared."""

_WINDOW, _CELLS = 2.6, 64  # of the drawn densities: half its side, and cells along a side
_DRAWN = 2000  # samples kept
_FIGURES = ("nll", "energy", "sliced wasserstein")
_BASELINE, _VARIATE = "mle ", "-cv"
_METHOD = re.compile(r"csm|csm-cv|dsm|mle [1-9][0-9]{0,2}")
_DRAWS = 4  # of noise, an example and step of the AR-CSM: its objectives are noisier than mle


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        seeds: repeats; of weights, batches, noise and samples.
        data: names of sets, with commas.
        methods: ``csm`` (the exact form), ``csm-cv`` (with its control variate) and ``dsm`` train
            the AR-CSM; ``mle K`` a baseline of K components.
        steps: optimizer steps.
        batch_size: examples a step.
        lr: peak learning rate of Adam.
        samples: how many are drawn, and how many held-out points there are.
        device: where.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = ",".join(TWO_DIMENSIONAL)
    methods: tuple[str, ...] = ("csm-cv", "mle 10", "mle 30")
    steps: int = 4000
    batch_size: int = 512
    lr: float = 1e-2
    samples: int = 5000
    device: str = "cpu"


QUICK = Settings(
    seeds=(0,), data="8gaussians,moons", methods=("dsm", "mle 10"), steps=400, samples=500
)


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the tables ``figures``, ``samples`` and ``densities`` (the last two of one seed).

    Raises:
        UsageError: a set is none of the two-dimensional ones, or a method none of those above.
    """
    sets = settings.data.split(",")
    for name in sets:
        if name not in TWO_DIMENSIONAL:
            raise UsageError(f"--data {name}: two-d takes {', '.join(TWO_DIMENSIONAL)}")
    for method in settings.methods:
        if not _METHOD.fullmatch(method):
            raise UsageError(
                f"--methods {method}: two-d takes csm, csm-cv, dsm, and mle K with K up to 999"
            )
    jobs = [(seed, name, m) for seed in settings.seeds for name in sets for m in settings.methods]
    tables: dict[str, list[Record]] = {"figures": [], "samples": [], "densities": []}
    for seed, name, method in track(jobs):
        place: Record = {"set": name, "method": method}
        clean = load_points(name, "test").values[: settings.samples]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        x = (clean + SIGMA * noise).to(settings.device)
        model = _trained(settings, name, method, seed)
        drawn = _draw(model, len(x), seed)
        figures = {
            "nll": _nll(model, x),
            "energy": energy_distance(drawn.cpu(), x.cpu()),
            "sliced wasserstein": sliced_wasserstein(drawn.cpu(), x.cpu()).distance,
        }
        truth = float("nan")
        if has_density(name):
            truth = -float(log_density(name, x.double().cpu(), SIGMA).mean())
        weights = sum(p.numel() for p in model.parameters())
        tables["figures"].append(
            {**place, "seed": seed, "weights": weights, **figures, "entropy": truth}
        )
        if seed == settings.seeds[0]:
            tables["samples"] += _points(place, drawn[:_DRAWN])
            tables["densities"] += _grid(place, model)
    return tables


def choices_of(method: str) -> Choices:
    """Return the model that a method trains: the AR-CSM, or a baseline with more weights."""
    if method.startswith(_BASELINE):
        return Choices(
            likelihood="logistic-mixture",
            annealing="none",
            sigma_min=SIGMA,
            components=int(method.removeprefix(_BASELINE)),
            hidden=(128, 128),
        )
    return Choices(sigma_min=SIGMA, residual=True, score_hidden=(64, 64, 64, 64))


def _trained(settings: Settings, name: str, method: str, seed: int) -> AutoregressiveModel:
    data, baseline = load_points(name, "train"), method.startswith(_BASELINE)
    config = model_config(data, choices_of(method))
    wanted = TrainSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        objective="mle" if baseline else method.removesuffix(_VARIATE),
        control_variate="auto" if method.endswith(_VARIATE) else "none",
        draws=1 if baseline else _DRAWS,
        lr=settings.lr,
        seed=seed,
        validate_every=settings.steps,
        checkpoint_every=settings.steps,
    )
    model: AutoregressiveModel = train_silently(config, wanted, data, settings.device)
    return model


def _draw(model: AutoregressiveModel, count: int, seed: int) -> Tensor:
    noise = SampleNoise(seed, range(count), model.mean.device)
    return sample(model, default_sampler(model), noise)


def _nll(model: AutoregressiveModel, x: Tensor) -> float:
    with torch.no_grad():
        return -float(log_likelihood(model, model.sort(x)).sum(1).double().mean())


def _points(place: Record, x: Tensor) -> list[Record]:
    return [{**place, "x": a, "y": b} for a, b in x.tolist()]


def _grid(place: Record, model: AutoregressiveModel) -> list[Record]:
    """Return log densities at the centres of square cells, row by row."""
    line = (torch.arange(_CELLS) + 0.5) * (2 * _WINDOW / _CELLS) - _WINDOW
    x = torch.cartesian_prod(line, line).to(model.mean.device)
    with torch.no_grad():
        log_p = log_likelihood(model, model.sort(x)).sum(1).tolist()
    return [
        {**place, "x": a, "y": b, "log p": p} for (a, b), p in zip(x.tolist(), log_p, strict=True)
    ]


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: means and deviations over seeds by set and method."""
    table = tables["figures"]
    rows: list[Record] = []
    for name in distinct(table["set"]):
        for method in distinct(table["method"]):
            found = where(table, set=name, method=method)
            row: Record = {"set": name, "method": method}
            for key in ("weights", "entropy"):
                row[key] = float(found[key].mean())
            for key in _FIGURES:
                row[key] = float(found[key].mean())
                row[f"{key} sd"] = deviation(found[key])
            rows.append(row)
    return {"figures": rows}


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return ``FIGURE/SET/METHOD``, and how many sets an AR-CSM is better on than a baseline.

    ``better/METHOD/BASELINE/FIGURE``; ``better/METHOD/BASELINE`` counts the sets where likelihood
    and energy distance are better.
    """
    rows = shown(tables)["figures"]
    figures = {f"{k}/{r['set']}/{r['method']}": float(r[k]) for r in rows for k in _FIGURES}
    sets, methods = (distinct(np.array([r[k] for r in rows])) for k in ("set", "method"))
    baselines = [m for m in methods if m.startswith(_BASELINE)]
    for method, baseline in itertools.product(methods, baselines):
        if method in baselines:
            continue
        wins = {
            k: {s for s in sets if figures[f"{k}/{s}/{method}"] < figures[f"{k}/{s}/{baseline}"]}
            for k in _FIGURES
        }
        place = f"better/{method}/{baseline}"
        figures |= {f"{place}/{k}": float(len(found)) for k, found in wins.items()}
        figures[place] = float(len(wins["nll"] & wins["energy"]))
    return figures
