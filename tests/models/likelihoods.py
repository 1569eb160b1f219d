"""Small models with normalised conditionals, and what they say of examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.registry import LIKELIHOODS

Make = Callable[..., Any]
GAUSSIAN, MIXTURE, DISCRETE = LIKELIHOODS
COMPONENTS = 2


def settings_of(
    likelihood: str, context: str = "made", shape: tuple[int, ...] = (3, 4, 4), sigma: float = 0.3
) -> dict[str, Any]:
    """The settings of a small model of images or, with a shape (D,), of vectors."""
    together = likelihood == DISCRETE and context == "pixelcnn"
    chosen: dict[str, Any] = {
        "shape": shape,
        "levels": (0.0 if likelihood == DISCRETE else sigma,),
        "annealing": "none",
        "context": context,
        "likelihood": likelihood,
        "components": COMPONENTS,
        "context_width": parameter_width(likelihood, COMPONENTS, shape[0] if together else 1),
        "filters": 3,
        "resnet_blocks": 1,
    }
    if likelihood != DISCRETE:
        return chosen | {"mean": (0.3,), "sd": (0.7,), "data_shift": (0.5,), "data_scale": (2.0,)}
    return chosen | {"data_shift": (0.5,), "data_scale": (0.5,)}


KINDS = list(itertools.product(LIKELIHOODS, ["made", "pixelcnn"]))
every = pytest.mark.parametrize(("likelihood", "context"), KINDS)


def examples(model: AutoregressiveModel, batch: int, seed: int = 0) -> Tensor:
    """Return examples in file units, (B, *shape): 8-bit values between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (batch, *model.config.shape), generator=generator)
    return levels.double() / 255


def log_prob_of(model: ARMLE, rows: Any, x: Tensor, d: int) -> Tensor:
    """Return log p of values x (B,) of dimension d from a walk's conditionals."""
    site = torch.cat([rows.earlier, x[:, None]], 1)
    k = site.shape[1]
    dims = slice(d + 1 - k, d + 1)
    filled = x.new_zeros(len(x), model.head.site)
    filled[:, :k] = (site - model.mean[dims]) / model.sd[dims]
    log_p: Tensor = model.head.log_prob(rows.parameters, filled)[:, k - 1]
    return log_p - model.sd[d].log()
