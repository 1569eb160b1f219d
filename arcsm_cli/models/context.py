"""What every context network offers: all contexts in one pass, or one dimension after another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class IncrementalContexts(ABC):
    """Contexts of one dimension after another, for a batch whose values become known in turn.

    D calls of `contexts` and `append` cost together the arithmetic of one full pass.
    """

    @abstractmethod
    def contexts(self) -> Tensor:
        """Return the contexts (B, C) of the next dimension, given the values appended so far."""

    @abstractmethod
    def append(self, x: Tensor) -> None:
        """Fix the values (B,) of the next dimension and move on to the one after it."""


class ContextNetwork(nn.Module, ABC):
    """Maps x_1..x_D to contexts c_1..c_D; c_d is a function of x_1..x_{d-1} only.

    Attributes:
        dimensions: D.
        width: C, the size of a context vector.
    """

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.width = width

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (B, D) to contexts (B, D, C) in one pass."""

    @abstractmethod
    def incremental(self, batch: int) -> IncrementalContexts:
        """Return an incremental evaluation for ``batch`` examples, without gradients."""
