"""Examples that are computed together, each with what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """B examples, and what is known of each beside its own values.

    Attributes:
        x: (B, *shape) or (B, D).
        given: (B, G), what the examples are conditioned on; G is 0 where that is nothing.
        order: (B, P), the order in which a model of any order visits the places of each (pixels, or
            variables of vectors), by their numbers; None for the model's own. Values stay in place.

    Example:
        >>> batch = Batch.of(torch.zeros(5, 3))
        >>> batch.rows(slice(1, 3)).x.shape, batch.given.shape
        (torch.Size([2, 3]), torch.Size([5, 0]))
    """

    x: Tensor
    given: Tensor
    order: Tensor | None = None

    @classmethod
    def of(cls, examples: Batch | Tensor) -> Batch:
        """Return a batch as it is, and examples alone as a batch of which nothing else is known."""
        if isinstance(examples, Batch):
            return examples
        return cls(examples, nothing_given(len(examples), examples))

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """Return batches without orders as one."""
        x, given = ([getattr(part, name) for part in parts] for name in ("x", "given"))
        return parts[0] if len(parts) == 1 else cls(torch.cat(x), torch.cat(given))

    @property
    def size(self) -> int:
        """B; ``len`` of a tuple is the number of its fields."""
        return len(self.x)

    def rows(self, rows: slice | Tensor) -> Batch:
        """Return some of the examples."""
        order = None if self.order is None else self.order[rows]
        return Batch(self.x[rows], self.given[rows], order)

    def holding(self, x: Tensor) -> Batch:
        """Return other values of the same examples: scaled, noisy or in another order."""
        return self._replace(x=x)

    def to(self, device: torch.device | str) -> Batch:
        """Move to a device; from pinned memory without waiting for it.

        Examples in double precision stay where the device has none.
        """
        given = self.given.to(device, non_blocking=True)
        order = None if self.order is None else self.order.to(device, non_blocking=True)
        stays = self.x.dtype == torch.float64 and torch.device(device).type == "mps"
        x = self.x if stays else self.x.to(device, non_blocking=True)
        return Batch(x, given, order)


def nothing_given(count: int, like: Tensor) -> Tensor:
    """Return that nothing is known of ``count`` examples, (count, 0), of another tensor's kind."""
    return like.new_empty(count, 0, dtype=torch.get_default_dtype())
