"""Sliced score matching of an AR-CSM (Song et al. 2019; "SSM-AR" of Meng et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.once import differentiable_twice
from arcsm_cli.objectives.levels import near_scales
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws


@torch.enable_grad()
def ssm(model: ARCSM, batch: NoisyBatch, random: Draws) -> Tensor:
    """Return the estimate of E_v E[v' J v + 1/2 (v's)^2], averaged over the batch.

    The field that is matched is the vector s of the conditional scores, J its derivative, v random
    signs. That is not the score of the model's joint density, whose component d is s_d plus the
    derivatives in x_d of all later log p(x_k | x_<k): those need the conditionals' normalising
    constants, D quadratures an example that would be differentiated twice, which is what an AR-CSM
    is there to do without. Nor is it needed: J is triangular and E[v v'] the identity, so over the
    signs the estimate has the expectation of exact score matching of s, and that is `csm`, term by
    term and for every model. What slicing adds is noise, from all v_d v_k (J_dk + 1/2 s_d s_k) of
    d != k, and the cost: one pass forward by plain operations, one backward through the contexts
    with its graph kept, and one through both, where csm goes forward and backward once. Memory
    grows likewise; neither grows with D as exact score matching does.

    Under noise a direction moves what the score reads and what its context reads alike, and each
    scalar's terms count sigma_d^2 as in `csm`: the estimate is of (sigma^2 v)' J v
    + 1/2 ((sigma v)'s)^2, for one level the above times sigma^2.
    """
    origin = torch.zeros_like(batch.context_input.x).requires_grad_()
    with differentiable_twice():
        moved = batch.context_input.holding(batch.context_input.x + origin)
        batch, c, share = near_scales(model, batch._replace(context_input=moved))
        s = model.score(batch.score_input + origin, c, batch.sigma, batch.level)
    v = random.signs(origin)
    weight = share * torch.where(batch.sigma > 0, batch.sigma.square(), 1.0)
    (product,) = torch.autograd.grad((weight * v * s).sum(), origin, create_graph=True)
    curvature = (product * v).sum(-1).mean() / len(s)
    return curvature + 0.5 * (weight.sqrt() * v * s).sum(-1).square().mean()
