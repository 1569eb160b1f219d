"""Composite score matching (paper, equation 8 and theorem 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.levels import near_scales
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws


def csm(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
    """Return the estimate of J_CSM = sum_d E[1/2 s_d^2 + ds_d/dx_d], averaged over the batch.

    With noise, each summand is weighted by sigma^2: levels then count alike, and under log-uniform
    levels the weighted sum bounds the KL divergence at the last level. One forward pass, no loop
    over d; up to a constant the composite score matching divergence, hence unbounded below only
    where no noise is added.

    A model with ``shares`` is trained with a control variate: by Stein's identity
    E[ds_d/dx_d] = E[noise s_d / sigma], so that for each lambda that does not depend on the noise

        E[1/2 s_d^2 + (1 - lambda) ds_d/dx_d + lambda noise s_d / sigma]

    is the same, and so is its gradient; lambda = 0 is csm, 1 is dsm up to a constant, and the best
    one (see `PosteriorShares`) leaves less variance than either.
    """
    batch, c, share = near_scales(model, batch)
    s, ds = model.score_and_derivative(batch.score_input, c, batch.sigma, batch.level)
    weight = share * torch.where(batch.sigma > 0, batch.sigma.square(), 1.0)
    if model.shares is None:
        return (weight * summand(s, ds)).sum(-1).mean()
    sigma, scale = batch.sigma.expand(s.shape), model.framed(c)[1].scale.detach()
    mix = model.shares.coefficient(sigma, scale)
    model.shares.note(sigma, scale, ds)
    stein = batch.noise * s / sigma
    return (weight * (summand(s, ds) + mix * (stein - ds))).sum(-1).mean()


def summand(s: Tensor, ds: Tensor) -> Tensor:
    """Return 1/2 s_d^2 + ds_d/dx_d: what the objective is the mean of, for each scalar."""
    return 0.5 * s.square() + ds
