"""Maximum likelihood of models with normalised conditionals."""

from __future__ import annotations

from torch import Tensor

from arcsm_cli.models.mle import ARMLE
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws


def mle(model: ARMLE, batch: NoisyBatch, random: Draws) -> Tensor:
    """Return the mean negative log-likelihood of the noisy examples, in nats an example.

    Contexts and densities see the same noise, that of the model's one level.
    """
    return -model.log_prob(batch.context_input).sum(-1).mean()
