"""Noise levels where they matter: near the width of each conditional."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.noisy_batch import NoisyBatch

_EVERYWHERE = 0.4  # part of the levels that is still drawn log-uniformly from the whole range


def near_scales(model: ARCSM, batch: NoisyBatch) -> tuple[NoisyBatch, Tensor, Tensor]:
    """Return a batch at levels near the scales of its frames, its contexts, and weights for that.

    Far above a conditional's scale t the score is that of the noise, far below it noise changes
    nothing. What an error of the location costs, in nats, is spread over log sigma like
    sigma^2 t^2 / (sigma^2 + t^2)^2, a logistic density around log t; most levels are drawn from it,
    and weights keep all expectations those of log-uniform levels. They are at most 2.5. Batches of
    models without frames, or of one level, come back as they are, with weight 1.

    Arguments:
        batch: its levels log-uniform.

    Returns:
        The batch, the contexts (K, B, D, C), with frames C + 2, and the weights (K, B, D).
    """
    c = model.contexts(batch.context_input, batch.level)
    c = c.expand(*batch.score_input.shape, c.shape[-1])
    if not model.config.has_frames or model.config.annealing != "joint":
        return batch, c, batch.sigma.new_ones(())
    low, high = math.log(model.levels[-1]), math.log(model.levels[0])
    span = high - low
    centre = model.framed(c)[1].scale.detach().log().clamp(low, high)
    u = (batch.sigma.log() - low) / span
    first, last = torch.sigmoid(2 * (low - centre)), torch.sigmoid(2 * (high - centre))
    v = ((u - _EVERYWHERE) / (1 - _EVERYWHERE)).clamp(1e-6, 1 - 1e-6)
    near = centre + 0.5 * torch.logit(first + v * (last - first))
    log_sigma = torch.where(u < _EVERYWHERE, low + span * u / _EVERYWHERE, near).clamp(low, high)
    y = torch.sigmoid(2 * (log_sigma - centre))
    density = _EVERYWHERE / span + (1 - _EVERYWHERE) * 2 * y * (1 - y) / (last - first)
    sigma = log_sigma.exp()
    moved = batch.score_input + (sigma - batch.sigma) * batch.noise
    return batch._replace(score_input=moved, sigma=sigma), c, 1 / (span * density)
