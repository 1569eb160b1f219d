"""One AR-CSM under several orders of the variables: the paper's closing question.

Images are flattened and their columns permuted, so that all orders have the same network, weights
and batches. ``mutual information`` is chosen from training data, see `informative_order`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.comparisons.held_out import train_and_test
from arcsm_cli.comparisons.tables import Columns, Record, Track, deviation, distinct, where
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.order import variable_order
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import train_silently

_BINS, _EXAMPLES, _HELD_OUT = 8, 20_000, 2000


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        seeds: repeats; of weights, batches, noise, and the random order.
        data: what to train on; its test split is held out.
        options: where data sets are.
        orders: their names.
        steps: optimizer steps.
        batch_size: examples a step.
        lr: peak learning rate of Adam.
        device: where.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = "digits"
    options: DataOptions = field(default_factory=DataOptions)
    orders: tuple[str, ...] = ("raster", "reversed", "random", "mutual information")
    steps: int = 2000
    batch_size: int = 128
    lr: float = 1e-3
    device: str = "cpu"


QUICK = Settings(seeds=(0,), steps=60)


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the table ``figures``: held-out nll of each order and seed, nats an example.

    ``beyond`` is how much it is above that of the first order with the same seed; ``se`` and ``se
    beyond`` are standard errors over held-out examples, of the latter with examples paired.
    """
    data, test = train_and_test(settings.data, settings.options)
    test = test.limit(_HELD_OUT)
    config = model_config(data, Choices(hidden=(256, 256)))
    known = data.take(torch.arange(min(len(data), _EXAMPLES))).flatten(1)
    informed = informative_order(known)
    records: list[Record] = []
    first: dict[int, Tensor] = {}
    for seed, order in track([(s, o) for s in settings.seeds for o in settings.orders]):
        permutation = informed
        if order != "mutual information":
            permutation = variable_order(order, config.shape, seed)
        model = train_silently(
            permuted(config, permutation),
            TrainSettings(
                steps=settings.steps,
                batch_size=settings.batch_size,
                objective="dsm",
                lr=settings.lr,
                seed=seed,
                validate_every=settings.steps,
                checkpoint_every=settings.steps,
            ),
            _columns(data, permutation),
            settings.device,
        )
        x = model.sort(_columns(test, permutation).values)
        # The noise belongs to the variable, whatever its place.
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        x = x + model.sigma_min * noise[:, permutation].to(x)
        nll = -log_likelihood(model, x).sum(1).double().cpu()
        beyond = nll - first.setdefault(seed, nll)
        records.append(
            {
                "order": order,
                "seed": seed,
                "dims": x.shape[1],
                "nll": float(nll.mean()),
                "se": _standard_error(nll),
                "beyond": float(beyond.mean()),
                "se beyond": _standard_error(beyond),
            }
        )
    return {"figures": records}


def _standard_error(x: Tensor) -> float:
    return float(x.std()) / math.sqrt(len(x))


def informative_order(x: Tensor) -> Tensor:
    """Return an order of the variables of examples (N, D) in which each one is well informed.

    The first is the variable with the most mutual information with all others; each next one has
    the most with any variable before it (the maximum spanning tree of Chow & Liu 1968, grown by
    Prim's algorithm). Mutual information is that of values sorted into eight equal bins.

    Returns:
        int64 (D,), a permutation.
    """
    information = mutual_information(x)
    first = int(information.sum(1).argmax())
    order, nearest = [first], information[first].clone()
    while len(order) < x.shape[1]:
        nearest[order] = -math.inf
        following = int(nearest.argmax())
        order.append(following)
        nearest = torch.maximum(nearest, information[following])
    return torch.tensor(order)


def mutual_information(x: Tensor) -> Tensor:
    """Return the mutual information of each pair of variables of examples (N, D), nats, (D, D).

    Plug-in estimate over bins of equal width; 0 on the diagonal.
    """
    low, high = x.amin(0), x.amax(0)
    place = ((x - low) / (high - low).clamp(min=1e-12) * _BINS).long().clamp(0, _BINS - 1)
    indicator = torch.nn.functional.one_hot(place, _BINS).flatten(1).double()  # (N, D B)
    d = x.shape[1]
    joint = (indicator.T @ indicator / len(x)).view(d, _BINS, d, _BINS)
    single = indicator.mean(0).view(d, _BINS)
    independent = single[:, :, None, None] * single
    terms = torch.where(joint > 0, joint * (joint / independent.clamp(min=1e-300)).log(), 0.0)
    information = terms.sum((1, 3))
    return information.fill_diagonal_(0.0)


def permuted(config: ModelConfig, order: Tensor) -> ModelConfig:
    """Return a configuration for flattened examples whose columns were put into an order."""

    def sorted_(values: tuple[float, ...]) -> tuple[float, ...]:
        return values if len(values) == 1 else tuple(values[i] for i in order.tolist())

    return replace(
        config,
        shape=(config.dimensions,),
        columns=(),
        data_shift=sorted_(config.data_shift),
        data_scale=sorted_(config.data_scale),
        mean=sorted_(config.mean),
        sd=sorted_(config.sd),
    )


def _columns(data: Dataset, order: Tensor) -> Dataset:
    values = data.take(torch.arange(len(data))).flatten(1)
    return Dataset(data.name, values[:, order].contiguous())


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: means over seeds and their standard errors, nats an example.

    ``sd`` is the spread over seeds, ``se`` the error of a mean over held-out examples; ``beyond``
    the paired distance from the first order, ``error`` its standard error, from seeds and examples.
    """
    table = tables["figures"]
    rows: list[Record] = []
    for order in distinct(table["order"]):
        found = where(table, order=order)
        nll, beyond = found["nll"], found["beyond"]
        of_seeds = deviation(beyond) / math.sqrt(len(beyond))
        rows.append(
            {
                "order": order,
                "nll": float(nll.mean()),
                "sd": deviation(nll),
                "se": float(found["se"].mean()),
                "beyond": float(beyond.mean()),
                "error": math.hypot(of_seeds, float(found["se beyond"].mean())),
            }
        )
    return {"orders": rows}


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return each order's mean held-out nll, and by how much it is above the first order's.

    By ``nll/ORDER`` and ``beyond/ORDER``.
    """
    rows = shown(tables)["orders"]
    return {f"{k}/{row['order']}": float(row[k]) for k in ("nll", "beyond") for row in rows}
