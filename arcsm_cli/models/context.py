"""What every context network offers: all contexts in one pass, or one dimension after another."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.shifts import Shifts
from arcsm_cli.options import stored_options


class IncrementalContexts(ABC):
    """Contexts of one dimension after another, for a batch whose values become known in turn.

    D calls of `contexts` and `append` cost together the arithmetic of one full pass.
    """

    @abstractmethod
    def contexts(self) -> Tensor:
        """Return the contexts (B, C) of the next dimension's site, given the values appended."""

    @abstractmethod
    def append(self, x: Tensor) -> None:
        """Fix the values (B,) of the next dimension and move on to the one after it."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Go on with these rows (B,) of the batch, repeated or dropped: row i becomes rows[i]."""


class ContextNetwork(nn.Module, ABC):
    """Maps x_1..x_D to contexts of *sites*; a site's context is a function of earlier sites only.

    A site is one dimension, or all channels of one pixel where the reader of the contexts models
    these together.

    **Conditions.** Contexts may also depend on what is given of an example (`Batch.given`). A
    network takes it through one hook: `shifted_units` says how many units each of its layers has,
    and `shifts` gives for each of them, in this order, what is to be added to the units before they
    are activated, the same at all dimensions (see `arcsm_cli.models.shifts`)::

        shifts = self.shifts(batch.given)  # an iterator: (B, units) each, or None: unconditional
        for layer in self.layers:
            h = silu(shifted(layer(h), next(shifts)))

    `incremental` takes the same numbers: there a shift is a bias of each row, which `select` has to
    keep with its row. Layers that reach the first context must be among those shifted, such as the
    last one. A network that is shifted nowhere is refused for conditional models.

    Attributes:
        dimensions: D.
        width: C, the size of a context vector.
        site: S, dimensions in a site; D is a multiple of it.
        conditioning: gives the shifts, None of a network that is told nothing.
    """

    conditioning: Shifts | None

    def __init__(self, dimensions: int, width: int, site: int = 1) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.width = width
        self.site = site
        self.conditioning = None

    @classmethod
    def build(cls, config: ModelConfig) -> Self:
        """Return the network of a configuration, with fresh weights.

        By default the class is called as ``cls(dimensions, width, **options)``, where the options
        are those that ``config.network`` holds for files.
        """
        return cls(config.dimensions, config.context_width, **stored_options(config.network))

    @classmethod
    def parameter_count(cls, config: ModelConfig) -> int:
        """Return the number of weights of the network of a configuration, without memory for them.

        By default it is built of tensors without storage; a network that reads the values of its
        tensors while it is built counts them itself.
        """
        with torch.device("meta"):
            return sum(p.numel() for p in cls.build(config).parameters())

    @classmethod
    def shifted_units(cls, config: ModelConfig) -> tuple[int, ...]:
        """Return how many units each layer has that conditions shift, in the order of `shifts`.

        None by default: the network takes no conditions.
        """
        return ()

    def condition_on(self, features: int, units: tuple[int, ...]) -> None:
        """Let contexts depend on ``features`` numbers that are given of each example."""
        self.conditioning = Shifts(features, units)

    def shifts(self, given: Tensor) -> Iterator[Tensor | None]:
        """Iterate over the shifts (B, units) of all layers, given (B, F); None without conditions.

        See `arcsm_cli.models.shifts.shifted`.
        """
        if self.conditioning is None:
            return itertools.repeat(None)
        return iter(self.conditioning(given))

    @abstractmethod
    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D / S, C) in one pass."""

    @abstractmethod
    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an incremental evaluation for B examples, without gradients.

        Arguments:
            given: (B, G), what they are conditioned on; see `arcsm_cli.data.batch.Batch`.
        """

    def start_at(self, context: Tensor) -> None:
        """Move the fresh weights so that contexts begin near a vector (C,), where that is easy."""
        return None

    def initialise(self, batch: Batch) -> bool:
        """Fit the initial weights to examples (B, D); whether there was anything to fit."""
        return False


class AnyOrderContexts(ContextNetwork):
    """A network whose examples may each visit their places in an order of their own, `Batch.order`.

    Those with ``any`` among the ``orders`` of their options.
    """

    @abstractmethod
    def visiting(self, given: Tensor, order: Tensor) -> IncrementalContexts:
        """Return an incremental evaluation for B examples, as `incremental` does.

        Arguments:
            given: (B, G).
            order: (B, P), the places in the order in which each example visits them.
        """
