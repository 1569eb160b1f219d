"""Small pictures, configurations and settings for VAEs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.vae_config import VAEConfig
from arcsm_cli.training.settings import VAESettings
from arcsm_cli.training.vae_configure import VAEChoices, vae_config

Make = Callable[..., Any]


def images(count: int, seed: int, channels: int = 1) -> Dataset:
    """Grey or colour pictures of 4 x 4 pixels."""
    values = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Dataset("pictures", values)


def config(data: Dataset, **choices: Any) -> VAEConfig:
    sizes: dict[str, Any] = {"hidden": (6, 5), "latent_dim": 2}
    method = choices.get("method", "csm")
    if method in ("csm", "ssm-ar"):
        sizes |= {"context_width": 2, "score_hidden": (4,)}
    elif method in ("stein", "spectral"):
        sizes |= {"particles": 5}
    return vae_config(data, VAEChoices(**sizes | choices))


def short(**values: Any) -> VAESettings:
    given: dict[str, Any] = {
        "steps": 7,
        "batch_size": 8,
        "lr": 1e-2,
        "score_lr": 1e-2,
        "warmup": 2,
        "checkpoint_every": 3,
        "validate_every": 2,
    }
    return VAESettings(**given | values)
