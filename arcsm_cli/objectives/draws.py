"""Random numbers of a batch, of which a process may compute a part only."""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.objectives.sliced import rademacher


class Draws:
    """Draws for the rows of a batch, one after another from a generator.

    What a row gets does not depend on which part is asked for: the numbers of the whole batch are
    drawn, and those of the part handed out.

    Arguments:
        generator: on the device of the batch.
        rows: of the whole batch; None where the part is all of it.
        part: which rows are computed here.

    Example:
        >>> whole = Draws(torch.Generator().manual_seed(0)).normal(torch.zeros(4, 3), 2)
        >>> part = Draws(torch.Generator().manual_seed(0), 4, slice(1, 3))
        >>> bool((part.normal(torch.zeros(2, 3), 2) == whole[1:3]).all())
        True
    """

    def __init__(
        self, generator: torch.Generator, rows: int | None = None, part: slice = slice(None)
    ) -> None:
        self._generator, self._rows, self._part = generator, rows, part

    def _whole(self, like: Tensor) -> int:
        return len(like) if self._rows is None else self._rows

    def normal(self, like: Tensor, *shape: int) -> Tensor:
        """Return standard normals (B, *shape), of ``like``'s B, type and device."""
        z = torch.randn(
            self._whole(like),
            *shape,
            generator=self._generator,
            device=like.device,
            dtype=like.dtype,
        )
        return z[self._part]

    def signs(self, like: Tensor) -> Tensor:
        """Return random signs of the shape of ``like`` (B, ...)."""
        whole = like.new_empty(self._whole(like), *like.shape[1:])
        return rademacher(whole, self._generator)[self._part]
