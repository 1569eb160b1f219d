"""Noisy training batches: which input sees which noise (paper, section 3.3; EDM if joint)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.base import AutoregressiveModel


class NoisyBatch(NamedTuple):
    """What an objective sees; K is the number of noise draws an example (leading axis).

    Attributes:
        context_input: (B, D), data plus noise of the last level, and what is given.
        score_input: (K, B, D), data plus ``sigma * noise``.
        noise: (K, B, D), standard normal.
        sigma: the noise level of each scalar, broadcastable to (K, B, D).
        level: which stage is trained (staged models).
    """

    context_input: Batch
    score_input: Tensor
    noise: Tensor
    sigma: Tensor
    level: int = -1

    def rows(self, rows: slice) -> NoisyBatch:
        """Return some of the examples."""
        sigma = self.sigma if self.sigma.ndim == 0 else self.sigma[:, rows]
        return NoisyBatch(
            self.context_input.rows(rows),
            self.score_input[:, rows],
            self.noise[:, rows],
            sigma,
            self.level,
        )


def perturb(
    model: AutoregressiveModel,
    batch: Batch | Tensor,
    generator: Generator,
    *,
    level: int = -1,
    draws: int = 1,
) -> NoisyBatch:
    """Add noise to sorted examples (B, D) the way the model's annealing prescribes.

    Joint models draw log sigma uniformly for every scalar on its own (each conditional is a problem
    of its own, so nothing ties the levels of one example together), stratified over the batch.

    Arguments:
        generator: on the device of the batch; all randomness comes from it.
        level: the level to train for staged models.
        draws: K, noise draws of the score input for each context.
    """
    batch = Batch.of(batch)
    x = batch.x
    shape = (draws, *x.shape)
    context_noise = _normal(x.shape, generator, x)
    noise = _normal(shape, generator, x)
    if model.config.annealing == "joint":
        low, high = math.log(model.levels[-1]), math.log(model.levels[0])
        # One draw in each of K B equal strata, shared out at random for every dimension.
        rows = draws * x.shape[0]
        u = torch.rand(rows, x.shape[1], generator=generator, device=x.device, dtype=x.dtype)
        offset = torch.randint(rows, (x.shape[1],), generator=generator, device=x.device)
        stratum = (torch.arange(rows, device=x.device)[:, None] + offset) % rows
        sigma = torch.exp(low + (high - low) * (stratum + u) / rows).view(shape)
    else:
        # A fill; a copy from the host would wait for the device.
        sigma = torch.full((), model.levels[level], device=x.device, dtype=x.dtype)
    return NoisyBatch(
        context_input=batch.holding(x + model.sigma_min * context_noise),
        score_input=x + sigma * noise,
        noise=noise,
        sigma=sigma,
        level=level,
    )


def _normal(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
