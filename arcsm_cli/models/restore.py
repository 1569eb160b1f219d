"""From a checkpoint's untrusted content to a model."""

from __future__ import annotations

import itertools
import math

import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.score import ConditionalScoreNetwork


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights of a model without building it.

    Example:
        >>> config = ModelConfig(shape=(5,), levels=(1.0, 0.1), hidden=(8, 8))
        >>> parameter_count(config) == sum(p.numel() for p in ARCSM(config).parameters())
        True
    """
    joint = config.annealing == "joint"
    context = (config.dimensions, *config.hidden, config.dimensions * config.context_width)
    noise = ConditionalScoreNetwork.NOISE_FEATURES if joint else 0
    score = (config.context_width + noise, *config.score_hidden, 1)
    layers = [*itertools.pairwise(context), *itertools.pairwise(score)]
    stage = sum(a * b + b for a, b in layers) + config.score_hidden[0]
    return stage * (len(config.levels) if config.annealing == "staged" else 1)


def restore(checkpoint: Checkpoint) -> ARCSM:
    """Build the model that a checkpoint holds.

    Nothing is allocated before the file's tensors are known to be as many numbers as its config
    asks for: a small file cannot claim a large model.

    Raises:
        DamagedInputError: if the config is unusable or the tensors are not those of the model.
    """
    if checkpoint.kind != "ar-csm":
        raise DamagedInputError(
            f"the checkpoint holds a model of kind {checkpoint.kind}, not ar-csm"
        )
    config = ModelConfig.from_dict(checkpoint.config)
    held = sum(math.prod(t.shape) for t in checkpoint.tensors.values())
    if held != parameter_count(config):
        raise DamagedInputError(
            f"the checkpoint holds {held} weights, but its config needs {parameter_count(config)}"
        )
    model = ARCSM(config)
    expected = {name: p.shape for name, p in model.named_parameters()}
    found = {name: t.shape for name, t in checkpoint.tensors.items()}
    if expected != found or any(t.dtype != torch.float32 for t in checkpoint.tensors.values()):
        raise DamagedInputError("the checkpoint's tensors are not those of its config")
    model.load_state_dict(checkpoint.tensors)
    return model.eval()
