"""Univariate denoising score matching (Vincent 2011, per conditional)."""

from __future__ import annotations

from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.levels import near_scales
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws


def dsm(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
    """Return the estimate of 1/2 sum_d E[sigma^2 (s_d(x~_d) + (x~_d - x_d) / sigma^2)^2].

    Same minimiser as `csm` of the noise-perturbed conditionals, and no derivative is needed; the
    noise level must be positive.
    """
    batch, c, weight = near_scales(model, batch)
    s = model.score(batch.score_input, c, batch.sigma, batch.level)
    return (weight * 0.5 * (batch.sigma * s + batch.noise).square()).sum(-1).mean()
