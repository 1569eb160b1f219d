"""How a model's quantile functions are taught: as a table of contexts and exact quantiles.

A teacher's contexts are those of its own samples, which is what the pupil will meet: its own
samples are to be the same. For each context of the table M quantiles are computed, one in each of
M equal shares of the mass, so that the mean of -log p over them hardly varies; the pupil is trained
by that likelihood. Computing the table once costs less than computing quantiles at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.randomness import Draws, Purpose, SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.quantile import exact_quantiles
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.autoregressive import pictures_of
from arcsm_cli.training.task import Objective, Task

QUANTILES = 8  # of a context
_FARTHEST = 5.0  # standard deviations: the most extreme quantile that is taught
_BLOCK = 512  # contexts at a time: activations stay in cache
_BATCH = 256  # samples at a time


@torch.no_grad()
def teacher_samples(model: ARCSM, seed: int, indices: range, tick: Callable[[int], None]) -> Tensor:
    """Return sorted examples (B, D) that a model draws, with the last level's noise.

    Arguments:
        indices: the numbers of the samples, of a stream that `arcsm sample` does not draw from.
        tick: called with the number of scalars drawn.
    """
    sampler, device = default_sampler(model), model.mean.device
    parts = []
    for start in range(indices.start, indices.stop, _BATCH):
        some = range(start, min(start + _BATCH, indices.stop))

        def drawn(dimensions: int, count: int = len(some)) -> None:
            tick(dimensions * count)

        noise = SampleNoise(seed, some, device, Purpose.TEACHER)
        parts.append(model.sort(sample(model, sampler, noise, tick=drawn)))
    return torch.cat(parts)


@torch.no_grad()
def lessons(
    model: ARCSM, x: Tensor, most: int, generator: Generator, tick: Callable[[int], None]
) -> Tensor:
    """Return what a pupil learns from: a row a scalar, (R, C + 1 + `QUANTILES`).

    A row holds the scalar's context, its dimension and, ascending, its conditional's quantiles.

    Arguments:
        x: sorted examples (B, D), with the last level's noise.
        most: rows; of more scalars, so many at random.
        tick: called with the number of rows computed.
    """
    contexts = model.contexts(x).flatten(0, 1)
    count, dimensions = len(contexts), x.shape[1]
    chosen = torch.randperm(count, generator=generator)[:most].sort().values
    share = torch.rand(len(chosen), QUANTILES, generator=generator)
    z = torch.special.ndtri((torch.arange(QUANTILES) + share) / QUANTILES)
    z = z.clamp(-_FARTHEST, _FARTHEST).to(x)
    owner, parts = ConditionalModel(model), []
    for part, start in zip(torch.split(chosen, _BLOCK), torch.split(z, _BLOCK), strict=True):
        part = part.to(x.device)
        dims = part % dimensions
        c = contexts[part]
        # Staged models have a stage a level; the quantiles are of the last.
        rows = Conditionals(owner, [c] * len(model.stages), dims)
        parts.append(torch.cat([c, dims[:, None].to(c.dtype), exact_quantiles(rows, start)], 1))
        tick(len(part))
    return torch.cat(parts)


class Lesson(NamedTuple):
    """Rows of the table: contexts (B, C), dimensions (B,) and quantiles (B, M)."""

    contexts: Tensor
    dims: Tensor
    values: Tensor

    @classmethod
    def of(cls, table: Tensor) -> Lesson:
        """Take rows (B, C + 1 + M) apart."""
        c, d, x = torch.split(table, [table.shape[1] - 1 - QUANTILES, 1, QUANTILES], 1)
        return cls(c, d[:, 0].long(), x)

    def rows(self, rows: slice) -> Lesson:
        """Return some of the rows."""
        return Lesson(*(t[rows] for t in self))


def quantile_loss(model: ARCSM, lesson: Lesson, random: Draws) -> Tensor:
    """Return -log p of the taught quantiles, the mean, nats a scalar."""
    log_p = model.quantile_function(lesson.contexts, lesson.dims).log_density(lesson.values)
    return -log_p.mean()


class DistillationTask(Task):
    """Trains what lies between contexts and knots; the examples are rows of `lessons`."""

    def objective(self, settings: Any, *, training: bool) -> Objective:
        """Return the likelihood of the taught quantiles."""
        return quantile_loss

    def prepare(self, model: Any, batch: Batch, *_: Any, training: bool) -> Lesson:
        """Return the rows' parts."""
        return Lesson.of(batch.x)

    def noisy(self, model: Any) -> bool:
        """Return that nothing is drawn: rows hold what they teach."""
        return False

    def pictures(self, model: AutoregressiveModel, seed: int, count: int) -> Tensor | None:
        """Return images without noise, or None for vectors."""
        return pictures_of(model, seed, count)
