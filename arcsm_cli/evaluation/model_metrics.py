"""Figures of a model on data: likelihood and the composite score matching objective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.eight_bit import CELL, dequantized, is_eight_bit
from arcsm_cli.data.given import classes
from arcsm_cli.data.stream import Examples
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.any_order import Question, part_log_likelihood
from arcsm_cli.evaluation.classifying import figures_of_labels
from arcsm_cli.evaluation.figures import Found, check_shape, found_in, labels_beside
from arcsm_cli.evaluation.readings import figures_of, log_scale
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.randomness import Purpose, SampleNoise
from arcsm_cli.registry import METRICS, STATISTICS

LARGEST_NOISE = 1 / 3
"""How wide the noise of a model's last level may be beside a grey value's cell."""


def evaluate(
    model: AutoregressiveModel,
    data: Examples,
    *,
    metrics: Sequence[str],
    method: str | None = None,
    perturb: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    question: Question | None = None,
    dequantize: bool = False,
    ranks: Ranks = SOLO,
) -> Iterator[Found]:
    """Evaluate examples batch by batch; they come with the noise that they were evaluated with.

    Arguments:
        data: clean examples of the model's shape.
        metrics: of `arcsm_cli.registry.STATISTICS`, or ``bpd``, which comes from ``nll``.
        method: of the likelihood, see `log_likelihood`.
        perturb: add noise of the last level first, since that is whose density is modelled; False
            for examples that carry it already, such as samples. Nothing is added for models of
            8-bit values.
        batch_size: examples at a time; the figures do not depend on it.
        seed: of the perturbation; example i's noise depends on the seed and i alone.
        question: measure ``nll`` of a part of the variables given another.
        dequantize: add uniform noise over the cells of 8-bit values in place of the perturbation,
            see `check_dequantized`.
        ranks: share the batches, all of which the first one gets; see `Ranks.in_order`.

    Raises:
        DamagedInputError: if the examples are of another shape, or the weights so large that the
            scores overflow, or values are not of 8 bits that are to be dequantised.
    """
    check_shape(model, data)
    names = ["nll" if name == "bpd" else name for name in metrics]
    names = list(dict.fromkeys(name for name in names if name in STATISTICS))
    labels = any(METRICS.has(name, "labels") for name in metrics if name in METRICS)

    def read(batch: Batch, indices: range) -> Found:
        noise = SampleNoise(seed, indices, purpose=Purpose.MEASURED)
        x = batch.x
        if dequantize:
            if not is_eight_bit(x):
                raise DamagedInputError(
                    f"{data.name}: --dequantize is of 8-bit values, some of these are not"
                )
            u = torch.special.ndtr(noise.normal(*x.shape[1:]).double())
            x = dequantized(x, u.to(x.dtype))
        rows = batch.holding(model.sort(x))
        if perturb and not dequantize and model.sigma_min > 0:
            z = noise.normal(rows.x.shape[1]).to(rows.x.device)
            rows = rows.holding(rows.x + model.sigma_min * z)
        if question is None:
            figures = figures_of(model, rows, names, method)
        else:
            log_p = part_log_likelihood(model, rows, question, method)
            figures = {"nll": log_scale(model, question.dimensions(model)) - log_p}
        if labels:
            figures |= figures_of_labels(model, rows, method)
        return Found(model.unsort(rows.x).cpu(), figures, labels_beside(model, rows))

    return found_in(data, read, batch_size=batch_size, ranks=ranks)


def metrics_of(model: AutoregressiveModel) -> tuple[str, ...]:
    """Return which metrics of models a model has; some are of scores, or of labels."""
    lacks = {"scores"} if not isinstance(model, ARCSM) else set()
    lacks |= {"labels"} if classes(model.config.given) is None else set()
    names = METRICS.tagged("model")
    return tuple(name for name in names if not any(METRICS.has(name, tag) for tag in lacks))


def is_discrete(model: AutoregressiveModel) -> bool:
    """Whether the model gives probabilities of 8-bit values instead of densities."""
    return isinstance(model, ARMLE) and model.head.discrete


def bits_per_dimension(model: AutoregressiveModel, nll: float, dimensions: int = 0) -> float:
    """Return bits/dim of a density of images on the 0..255 scale, or of vectors in file units.

    Arguments:
        dimensions: how many the density is of, if not of all.
    """
    bits = nll / ((dimensions or model.config.dimensions) * math.log(2))
    return bits + math.log2(127.5) if model.config.is_image and not is_discrete(model) else bits


def summary(
    model: AutoregressiveModel,
    figures: dict[str, np.ndarray[Any, Any]],
    metrics: list[str],
    dimensions: int = 0,
) -> dict[str, float]:
    """Return the mean of each metric, and the standard error of the mean under ``NAME_se``.

    Arguments:
        dimensions: how many the figures are of, if not of all.
    """
    result: dict[str, float] = {}
    for name in metrics:
        values = np.asarray(figures["nll" if name == "bpd" else name], np.float64)
        mean = float(values.mean())
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        if name == "bpd":
            error /= (dimensions or model.config.dimensions) * math.log(2)
            mean = bits_per_dimension(model, mean, dimensions)
        result |= {name: mean, f"{name}_se": error}
    return result


def check_dequantized(model: AutoregressiveModel) -> None:
    """Refuse models whose density says little of dequantised 8-bit images.

    The bound holds for every density. But a model knows images with noise of its last level, and
    noise that is not small beside a cell, `LARGEST_NOISE` of its width, belongs to the figure.

    Raises:
        UsageError: naming both widths.
    """
    if not model.config.is_image:
        raise UsageError("--dequantize is of images, the model is of vectors")
    if is_discrete(model):
        raise UsageError(
            "--dequantize is for densities; this model gives probabilities of 8-bit images as it is"
        )
    scale = model.config.data_scale[0]
    if (noise := model.sigma_min * scale) > LARGEST_NOISE * CELL:
        least = LARGEST_NOISE * CELL / scale
        raise UsageError(
            f"--dequantize: the model's last noise level, sigma {model.sigma_min:g}, is "
            f"{noise / CELL:.2f} of a grey value's cell ({CELL / scale:.5f} wide); the bound takes "
            f"at most a third, a model trained with --sigma-min {math.floor(1e5 * least) / 1e5:g} "
            "or less"
        )


def dequantized_text(model: AutoregressiveModel) -> str:
    """Return of what the figures of dequantised images are a bound, for the output."""
    noise = model.sigma_min * model.config.data_scale[0] / CELL
    return (
        "upper bound of 8-bit images: uniform noise over each grey value's cell; the model's own "
        f"noise has sigma {model.sigma_min:g}, {noise:.2f} of a cell"
    )


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


def noise_bpd(model: AutoregressiveModel, dimensions: Tensor | None = None) -> float | None:
    """Return the bits/dim of the added noise by itself: the figure of data without entropy.

    Arguments:
        dimensions: which figures are of, bool (D,); None for all.
    """
    if model.sigma_min == 0:
        return None
    count = model.config.dimensions if dimensions is None else int(dimensions.sum())
    nats = 0.5 * math.log(2 * math.pi * math.e) + math.log(model.sigma_min)
    return bits_per_dimension(model, nats * count + log_scale(model, dimensions), count)
