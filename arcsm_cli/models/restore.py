"""From a checkpoint's untrusted content to a model."""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeVar, overload

import torch
from torch import nn

from arcsm_cli.data.conditions import feature_count
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import ContextNetwork
from arcsm_cli.models.frames import FramedContexts
from arcsm_cli.models.heads import Head
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.quantile import QuantileHead
from arcsm_cli.models.score import ConditionalScoreNetwork
from arcsm_cli.models.shifts import Shifts
from arcsm_cli.models.vae import VAE, encoder, score_estimator
from arcsm_cli.models.vae_config import TRIANGULAR, VAEConfig
from arcsm_cli.models.vae_networks import Decoder, Features
from arcsm_cli.registry import CONTEXTS, LIKELIHOODS

_Module = TypeVar("_Module", bound=nn.Module)


Config = ModelConfig | VAEConfig
"""The settings of any model known here."""


def config_type(values: Any) -> type[ModelConfig] | type[VAEConfig]:
    """Return what kind of configuration the JSON object of a file is meant to be."""
    return VAEConfig if isinstance(values, dict) and "latent_dim" in values else ModelConfig


@overload
def make_model(config: ModelConfig) -> AutoregressiveModel: ...
@overload
def make_model(config: VAEConfig) -> VAE: ...
def make_model(config: Config) -> AutoregressiveModel | VAE:
    """Return the model that a configuration describes, with fresh weights."""
    if isinstance(config, VAEConfig):
        return VAE(config)
    return ARMLE(config) if config.likelihood else ARCSM(config)


def parameter_count(config: Config) -> int:
    """Return the number of weights of a model without building it.

    Example:
        >>> config = ModelConfig(shape=(5,), levels=(1.0, 0.1), hidden=(8, 8))
        >>> parameter_count(config) == sum(p.numel() for p in ARCSM(config).parameters())
        True
    """
    if isinstance(config, VAEConfig):
        return _vae_parameter_count(config)
    kind: type[ContextNetwork] = CONTEXTS[config.context]
    stage = kind.parameter_count(config.of_contexts())
    if config.given:
        units = kind.shifted_units(config.of_contexts())
        stage += Shifts.parameter_count(feature_count(config.given), units)
    if config.likelihood:
        head: type[Head] = LIKELIHOODS[config.likelihood]
        return stage + head.parameter_count(config)
    if config.has_frames:
        linear = config.frames == "linear"
        features = feature_count(config.given)
        stage += FramedContexts.start_count(config.dimensions, linear=linear, features=features)
    joint = config.annealing == "joint"
    noise = ConditionalScoreNetwork.level_features(of_levels=joint, in_noise=config.in_noise)
    stage += _dense((config.context_width + noise, *config.score_hidden, 1))
    stage += config.score_hidden[0]
    count = stage * (len(config.levels) if config.annealing == "staged" else 1)
    if (of := config.quantiles) is not None:
        outputs = QuantileHead.outputs(of.quantile_bins)
        count += _dense((config.context_width, *of.quantile_hidden, outputs))
    return count


def _vae_parameter_count(config: VAEConfig) -> int:
    """Return the number of weights of a VAE without building it."""
    conditional = config.method in TRIANGULAR
    with torch.device("meta"):  # tensors without memory
        parts: list[nn.Module] = [Features(config), encoder(config), Decoder(config)]
        parts += [] if conditional else [score_estimator(config) or nn.Identity()]
        count = sum(p.numel() for part in parts for p in part.parameters())
    count += config.decoder == "gaussian"  # its deviation
    if conditional:  # whose masks are computed while it is built
        units, codes = config.hidden[1], config.latent_dim
        count += _dense((config.hidden[0], units)) + _dense((codes, units, units))
        count += _dense((units, codes * config.context_width))
        count += _dense((config.context_width, *config.score_hidden, 1)) + config.score_hidden[0]
    return count


def _dense(sizes: tuple[int, ...]) -> int:
    """Return the number of weights and biases of linear layers between these sizes."""
    return sum(a * b + b for a, b in itertools.pairwise(sizes))


def restore(checkpoint: Checkpoint) -> AutoregressiveModel:
    """Build the autoregressive model that a checkpoint holds.

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
    _check_count(checkpoint, config)
    return _filled(make_model(config), checkpoint)


def restore_vae(checkpoint: Checkpoint) -> VAE:
    """Build the VAE that a checkpoint holds, with the same care.

    Raises:
        DamagedInputError: if it is of another kind, the config is unusable or the tensors are not
            those of the model.
    """
    if checkpoint.kind != VAE.kind:
        raise DamagedInputError(f"the checkpoint holds a model of kind {checkpoint.kind}, no VAE")
    config = VAEConfig.from_dict(checkpoint.config)
    _check_count(checkpoint, config)
    return _filled(make_model(config), checkpoint)


def _check_count(checkpoint: Checkpoint, config: Config) -> None:
    held = sum(math.prod(t.shape) for t in checkpoint.tensors.values())
    needed = parameter_count(config)
    if held != needed:
        raise DamagedInputError(
            f"the checkpoint holds {held} weights, but its config needs {needed}"
        )


def _filled(model: _Module, checkpoint: Checkpoint) -> _Module:
    expected = {name: p.shape for name, p in model.named_parameters()}
    found = {name: t.shape for name, t in checkpoint.tensors.items()}
    if expected != found or any(t.dtype != torch.float32 for t in checkpoint.tensors.values()):
        raise DamagedInputError("the checkpoint's tensors are not those of its config")
    model.load_state_dict(checkpoint.tensors)
    return model.eval()
