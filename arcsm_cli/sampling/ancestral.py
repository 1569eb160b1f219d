"""Ancestral sampling: draw from normalised conditionals as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arcsm_cli.models.mle import ARMLE, Drawable


@dataclass(frozen=True)
class Ancestral:
    """Exact draws from models trained by maximum likelihood.

    Arguments:
        draws: random numbers a dimension, as the model's head takes.
    """

    draws: int

    @classmethod
    def for_model(cls, model: ARMLE) -> Ancestral:
        """Return the sampler for a model of densities."""
        return cls(model.head.draws)

    def __call__(self, rows: Drawable, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, draws); returns (N,)."""
        return rows.draw(z)
