"""What is read off a model of each example: the figures that metrics and statistics are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.evaluation.multiscale import levels_of, summaries, vectors
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.registry import STATISTICS

_LARGEST_RATIO, _TINY = 1e6, 1e-300


class Reading:
    """Examples as a model sees them, and what it says of them; each part is computed once.

    Arguments:
        model: of scores or densities.
        rows: sorted, perturbed examples (B, D).
        method: of the likelihood, see `log_likelihood`.
        levels: whether scores are read at all noise levels, or at the last alone.
    """

    def __init__(
        self, model: AutoregressiveModel, rows: Batch, method: str | None, *, levels: bool
    ) -> None:
        self.model, self.rows, self._method, self._levels = model, rows, method, levels

    @cached_property
    def log_p(self) -> Tensor:
        """log p(x) in the model's scale, (B,), float64 on the CPU."""
        return log_likelihood(self.model, self.rows, self._method).cpu().double().sum(1)

    @cached_property
    def table(self) -> Tensor:
        """Score-sum, score-norm and csm at L levels, (B, L, 3), see `summaries`."""
        assert isinstance(self.model, ARCSM)
        levels = levels_of(self.model)  # the last of them is the model's
        return summaries(self.model, self.rows, levels if self._levels else levels[-1:])


@torch.no_grad()
def figures_of(
    model: AutoregressiveModel, rows: Batch, names: Sequence[str], method: str | None = None
) -> dict[str, Tensor]:
    """Return figures of sorted, perturbed examples (B, D) by name, float64 on the CPU.

    Arguments:
        names: of `arcsm_cli.registry.STATISTICS`.
        method: of the likelihood.
    """
    levels = any(STATISTICS.has(name, "levels") for name in names)
    reading = Reading(model, rows, method, levels=levels)
    return {name: STATISTICS[name](reading) for name in names}


def nll(reading: Reading) -> Tensor:
    """Return -log p(x), exact, in nats of file units; of images in those of [-1, 1]."""
    return log_scale(reading.model) - reading.log_p


def score_sum(reading: Reading) -> Tensor:
    """Return sum_d s_d: the statistic of the paper, in our reading (section 8 of its method)."""
    return reading.table[:, -1, 0]


def score_norm(reading: Reading) -> Tensor:
    """Return mean_d s_d^2."""
    return reading.table[:, -1, 1]


def ratio(reading: Reading) -> Tensor:
    """Return sum_d s_d^2 / sum_d -ds_d/dx_d: 1 in the mean over data that the model describes.

    E s^2 = -E ds/dx for every density. At most `_LARGEST_RATIO`, which stands for derivatives whose
    sum is not negative, as that near data is.
    """
    squares = reading.table[:, -1, 1] * reading.rows.x.shape[1]
    bend = squares / 2 - reading.table[:, -1, 2]
    return squares / torch.maximum(bend, squares / _LARGEST_RATIO).clamp(min=_TINY)


def csm(reading: Reading) -> Tensor:
    """Return sum_d (1/2 s_d^2 + ds_d/dx_d)."""
    return reading.table[:, -1, 2]


def multiscale(reading: Reading) -> Tensor:
    """Return the vectors (B, F) whose distance from training data is the statistic."""
    return vectors(reading.table)


def log_scale(model: AutoregressiveModel, dimensions: Tensor | None = None) -> float:
    """Return what turns a vector's density in the model's scale to file units, in nats.

    Zero for images, whose densities are stated in the [-1, 1] scale.

    Arguments:
        dimensions: which the density is of, bool (D,); None for all.
    """
    if model.config.is_image:
        return 0.0
    if dimensions is None:
        return model.units.log_scale
    scale = torch.tensor(model.config.data_scale, dtype=torch.float64).expand(len(dimensions))
    return float(scale[dimensions].log().sum())
