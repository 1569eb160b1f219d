"""From a checkpoint's untrusted content to a model."""

from __future__ import annotations

import itertools
import math

import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel, context_network
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.score import ConditionalScoreNetwork


def make_model(config: ModelConfig) -> AutoregressiveModel:
    """Return the model that a configuration describes, with fresh weights."""
    return ARMLE(config) if config.likelihood else ARCSM(config)


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights of a model without building it.

    Example:
        >>> config = ModelConfig(shape=(5,), levels=(1.0, 0.1), hidden=(8, 8))
        >>> parameter_count(config) == sum(p.numel() for p in ARCSM(config).parameters())
        True
    """
    if config.context == "made":
        sizes = (config.dimensions, *config.hidden, config.dimensions * config.context_width)
        stage = _dense(sizes)
    else:  # tensors without memory
        with torch.device("meta"):
            stage = sum(p.numel() for p in context_network(config).parameters())
    if config.likelihood:
        return stage
    noise = ConditionalScoreNetwork.NOISE_FEATURES if config.annealing == "joint" else 0
    stage += _dense((config.context_width + noise, *config.score_hidden, 1))
    stage += config.score_hidden[0]
    return stage * (len(config.levels) if config.annealing == "staged" else 1)


def _dense(sizes: tuple[int, ...]) -> int:
    """Return the number of weights and biases of linear layers between these sizes."""
    return sum(a * b + b for a, b in itertools.pairwise(sizes))


def restore(checkpoint: Checkpoint) -> AutoregressiveModel:
    """Build the model that a checkpoint holds.

    Nothing is allocated before the file's tensors are known to be as many numbers as its config
    asks for: a small file cannot claim a large model.

    Raises:
        DamagedInputError: if the config is unusable or the tensors are not those of the model.
    """
    if checkpoint.kind not in (ARCSM.kind, ARMLE.kind):
        raise DamagedInputError(
            f"the checkpoint holds a model of kind {checkpoint.kind}, "
            f"neither {ARCSM.kind} nor {ARMLE.kind}"
        )
    config = ModelConfig.from_dict(checkpoint.config)
    if bool(config.likelihood) != (checkpoint.kind == ARMLE.kind):
        raise DamagedInputError(
            f"the checkpoint's config is not that of a model of kind {checkpoint.kind}"
        )
    held = sum(math.prod(t.shape) for t in checkpoint.tensors.values())
    needed = parameter_count(config)
    if held != needed:
        raise DamagedInputError(
            f"the checkpoint holds {held} weights, but its config needs {needed}"
        )
    model = make_model(config)
    expected = {name: p.shape for name, p in model.named_parameters()}
    found = {name: t.shape for name, t in checkpoint.tensors.items()}
    if expected != found or any(t.dtype != torch.float32 for t in checkpoint.tensors.values()):
        raise DamagedInputError("the checkpoint's tensors are not those of its config")
    model.load_state_dict(checkpoint.tensors)
    return model.eval()
