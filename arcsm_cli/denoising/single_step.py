"""Denoising all scalars at once by Tweedie's formula, E[x | y] = y + sigma^2 s(y; sigma).

One after another, with contexts from what is restored already: the rule `Tweedie` of `restore`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.conditional import ConditionalModel


@torch.no_grad()
def parallel(model: ARCSM, observed: Batch | Tensor, sigma: float, level: int = -1) -> Tensor:
    """Return the expected clean values (B, D), with contexts from the noisy example itself.

    One pass; exact, E[x_d | y_<=d] under the model, where sigma is the noise that contexts were
    trained with (the model's last level).

    Arguments:
        observed: (B, D), noisy, sorted and in the model's scale (see `ARCSM`).
        sigma: standard deviation of the noise.
        level: which stage answers, for staged models.
    """
    observed = Batch.of(observed)
    rows = ConditionalModel(model).of_examples(observed)
    y = observed.x.flatten()
    return (y + sigma**2 * rows.at(sigma, level)(y)).view_as(observed.x)
