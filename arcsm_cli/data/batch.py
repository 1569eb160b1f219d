"""Examples that are computed together, each with what is known of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """B examples, and what is known of each beside its own values.

    Attributes:
        x: (B, *shape) or (B, D).
        given: (B, G), what the examples are conditioned on; G is 0 where that is nothing.

    Example:
        >>> batch = Batch.of(torch.zeros(5, 3))
        >>> batch.rows(slice(1, 3)).x.shape, batch.given.shape
        (torch.Size([2, 3]), torch.Size([5, 0]))
    """

    x: Tensor
    given: Tensor

    @classmethod
    def of(cls, examples: Batch | Tensor) -> Batch:
        """Return a batch as it is, and examples alone as a batch of which nothing else is known."""
        if isinstance(examples, Batch):
            return examples
        return cls(examples, nothing_given(len(examples), examples))

    @property
    def size(self) -> int:
        """B; ``len`` of a tuple is the number of its fields."""
        return len(self.x)

    def rows(self, rows: slice | Tensor) -> Batch:
        """Return some of the examples."""
        return Batch(self.x[rows], self.given[rows])

    def holding(self, x: Tensor) -> Batch:
        """Return other values of the same examples: scaled, noisy or in another order."""
        return Batch(x, self.given)

    def to(self, device: torch.device | str) -> Batch:
        """Move to a device; from pinned memory without waiting for it.

        Examples in double precision stay: models bring them to their scale on the CPU.
        """
        given = self.given.to(device, non_blocking=True)
        if self.x.dtype == torch.float64:
            return Batch(self.x, given)
        return Batch(self.x.to(device, non_blocking=True), given)


def nothing_given(count: int, like: Tensor) -> Tensor:
    """Return that nothing is known of ``count`` examples, (count, 0), of another tensor's kind."""
    return like.new_empty(count, 0, dtype=torch.get_default_dtype())
