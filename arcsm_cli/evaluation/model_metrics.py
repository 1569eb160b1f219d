"""Figures of a model on data: likelihood and the composite score matching objective."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.stream import Examples
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.vae import VAE
from arcsm_cli.randomness import Purpose, SampleNoise

METRICS = ("nll", "bpd", "csm")


class Evaluated(NamedTuple):
    """One batch: the perturbed examples in file units, and figures per example."""

    examples: Tensor
    figures: dict[str, Tensor]


def evaluate(
    model: AutoregressiveModel,
    data: Examples,
    *,
    metrics: list[str],
    method: str | None = None,
    perturb: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    ranks: Ranks = SOLO,
) -> Iterator[Evaluated]:
    """Evaluate examples batch by batch.

    Arguments:
        data: clean examples of the model's shape.
        metrics: of `METRICS`; ``bpd`` comes from the same figure as ``nll``.
        method: of the likelihood, see `log_likelihood`.
        perturb: add noise of the last level first, since that is whose density is modelled; False
            for examples that carry it already, such as samples.
        seed: of the perturbation; example i's noise depends on the seed and i alone.
        ranks: share the batches, all of which the first one gets; see `Ranks.in_order`.

    Raises:
        DamagedInputError: if the examples are of another shape, or the weights so large that the
            scores overflow.
    """
    check_shape(model, data)
    own = _evaluated(
        model,
        ranks.batches(data, batch_size),
        metrics=metrics,
        method=method,
        perturb=perturb,
        seed=seed,
    )
    return ranks.in_order(own, len(data), batch_size)


def _evaluated(
    model: AutoregressiveModel,
    batches: Iterator[tuple[int, Tensor]],
    *,
    metrics: list[str],
    method: str | None,
    perturb: bool,
    seed: int,
) -> Iterator[Evaluated]:
    for start, x in batches:
        rows = noisy_rows(model, x, start, perturb=perturb, seed=seed)
        figures = {}
        if "nll" in metrics or "bpd" in metrics:
            figures["nll"] = -log_likelihood(model, rows, method).sum(1) + log_scale(model)
        if "csm" in metrics:
            assert isinstance(model, ARCSM)
            with torch.no_grad():
                c = model.contexts(rows)
                s, ds = model.score_and_derivative(rows, c, rows.new_tensor(model.sigma_min))
            figures["csm"] = (0.5 * s.square() + ds).sum(1)
        if not all(bool(v.isfinite().all()) for v in figures.values()):
            raise DamagedInputError("the model's scores are not numbers on these data")
        yield Evaluated(model.unsort(rows).cpu(), {k: v.cpu() for k, v in figures.items()})


def noisy_rows(
    model: AutoregressiveModel, x: Tensor, start: int, *, perturb: bool = True, seed: int = 0
) -> Tensor:
    """Return examples in file units, (B, *shape), as sorted ones (B, D) with the model's noise.

    Arguments:
        start: number of the first one; example i's noise depends on the seed and i alone.
        perturb: whether to add the noise of the last level, see `evaluate`.
    """
    rows = model.sort(x)
    if perturb and model.sigma_min > 0:
        noise = SampleNoise(seed, range(start, start + len(x)), rows.device, Purpose.MEASURED)
        rows = rows + model.sigma_min * noise.normal(rows.shape[1])
    return rows


def check_shape(model: AutoregressiveModel | VAE, data: Examples) -> None:
    """Refuse data of another shape than the model's.

    Raises:
        DamagedInputError: naming both shapes.
    """
    if data.shape != model.config.shape:
        theirs, ours = (" x ".join(map(str, s)) for s in (data.shape, model.config.shape))
        raise DamagedInputError(f"{data.name}: examples are {theirs}, the model's are {ours}")


def metrics_of(model: AutoregressiveModel) -> tuple[str, ...]:
    """Return which of `METRICS` apply to a model; csm is of scores."""
    return METRICS if isinstance(model, ARCSM) else METRICS[:2]


def default_method(model: AutoregressiveModel) -> str:
    """Return how the likelihood is computed unless another way is asked for."""
    if isinstance(model, ARMLE):
        return "direct"
    return "flow" if model.config.annealing == "joint" else "quadrature"


def is_discrete(model: AutoregressiveModel) -> bool:
    """Whether the model gives probabilities of 8-bit values instead of densities."""
    return isinstance(model, ARMLE) and model.head.discrete


def log_scale(model: AutoregressiveModel) -> float:
    """Return what turns a vector's density in the model's scale to file units, in nats.

    Zero for images, whose densities are stated in the [-1, 1] scale.
    """
    return 0.0 if model.config.is_image else model.units.log_scale


def bits_per_dimension(model: AutoregressiveModel, nll: float) -> float:
    """Return bits/dim of a density of images on the 0..255 scale, or of vectors in file units."""
    bits = nll / (model.config.dimensions * math.log(2))
    return bits + math.log2(127.5) if model.config.is_image and not is_discrete(model) else bits


def summary(
    model: AutoregressiveModel, figures: dict[str, np.ndarray[Any, Any]], metrics: list[str]
) -> dict[str, float]:
    """Return the mean of each metric, and the standard error of the mean under ``NAME_se``."""
    result: dict[str, float] = {}
    for name in metrics:
        values = np.asarray(figures["nll" if name == "bpd" else name], np.float64)
        mean = float(values.mean())
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        if name == "bpd":
            error /= model.config.dimensions * math.log(2)
            mean = bits_per_dimension(model, mean)
        result |= {name: mean, f"{name}_se": error}
    return result


def density_text(model: AutoregressiveModel, *, perturbed: bool) -> str:
    """Return which density the likelihood figures are of, for the output."""
    if is_discrete(model):
        return "probabilities of 8-bit images"
    where = "images in [-1, 1]" if model.config.is_image else "data in file units"
    sigma = model.sigma_min
    if sigma == 0:
        return where
    scale = (
        "" if model.config.is_image or set(model.config.data_scale) == {1.0} else " (standardised)"
    )
    how = "" if perturbed else ", taken as already perturbed"
    return f"{where} plus normal noise of sigma {sigma:g}{scale}{how}"


def noise_bpd(model: AutoregressiveModel) -> float | None:
    """Return the bits/dim of the added noise by itself: the figure of data without entropy."""
    if model.sigma_min == 0:
        return None
    nats = 0.5 * math.log(2 * math.pi * math.e) + math.log(model.sigma_min)
    scaled = nats * model.config.dimensions + log_scale(model)
    return bits_per_dimension(model, scaled)
