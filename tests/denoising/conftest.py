"""Models with known posteriors, where the code expects networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arcsm_cli.denoising import single_step
from arcsm_cli.denoising import walk as walk_module
from tests.denoising.exact import CorrelatedGaussian, Exact, MixtureRows

Make = Callable[..., Any]


@pytest.fixture
def known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `restore` and `parallel` take `KnownModel`s."""
    for module in (walk_module, single_step):
        monkeypatch.setattr(module, "ConditionalModel", Exact)


@pytest.fixture
def make_rows() -> Make:
    """Makes N equal mixtures: ``make_rows(n, weights, centres, sd, sigma_min)``."""

    def make(
        n: int,
        weights: tuple[float, ...] = (0.3, 0.7),
        centres: tuple[float, ...] = (-0.6, 0.5),
        sd: float = 0.15,
        sigma_min: float = 0.1,
        **options: bool,
    ) -> MixtureRows:
        tensors = (torch.tensor([t] * n, dtype=torch.float64) for t in (weights, centres))
        return MixtureRows(*tensors, sd, sigma_min, **options)

    return make


@pytest.fixture
def correlated(known_models: None) -> Make:
    """Makes `CorrelatedGaussian`s."""
    return CorrelatedGaussian
