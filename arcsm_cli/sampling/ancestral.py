"""Ancestral sampling: draw from normalised conditionals as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arcsm_cli.models.mle import Drawable


@dataclass(frozen=True)
class Ancestral:
    """Exact draws from models trained by maximum likelihood.

    Arguments:
        draws: random numbers a dimension, as the model's head takes.
    """

    draws: int

    def __call__(self, rows: Drawable, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, draws); returns (N,)."""
        return rows.draw(z)
