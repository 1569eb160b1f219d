"""Small models with random weights, whose densities are as exact as any."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.plotting import density


@pytest.fixture(autouse=True)
def _coarse_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Densities on few points: fast, and no less exact at each of them."""
    monkeypatch.setattr(density, "_FEWEST", 40)
    monkeypatch.setattr(density, "_MOST", 40)


@pytest.fixture
def model() -> Callable[..., ARCSM]:
    """Makes a model of vectors; keywords go to its config."""

    def make(**options: Any) -> ARCSM:
        torch.manual_seed(1)
        settings: dict[str, Any] = {
            "shape": (2,),
            "levels": (0.3,),
            "annealing": "none",
            "context_width": 4,
            "hidden": (8,),
            "score_hidden": (8,),
        }
        return ARCSM(ModelConfig(**settings | options)).eval()

    return make
