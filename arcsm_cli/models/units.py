"""From the units of files to a model's scale and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arcsm_cli.data.precision import FAR


class FileUnits:
    """model value = (file value - shift) / scale, column by column.

    Columns with a scale of their own are shifted in double precision, on the CPU: of values far
    from zero single precision would leave little.

    Arguments:
        shift, scale: one number for all values, or D.

    Attributes:
        log_scale: the sum over D columns of log scale, in nats: a density in file units is that in
            the model's scale minus it.

    Example:
        >>> units = FileUnits((1e9, 0.0), (2.0, 1.0), 2)
        >>> x = units.to_model(torch.tensor([[1e9 + 1, 3.0]], dtype=torch.float64))
        >>> x
        tensor([[0.5000, 3.0000]])
        >>> units.to_file(x).tolist()
        [[1000000001.0, 3.0]]
    """

    def __init__(self, shift: tuple[float, ...], scale: tuple[float, ...], dimensions: int) -> None:
        self._alike = len(shift) == len(scale) == 1
        self._shift = torch.tensor(shift, dtype=torch.float64)
        self._scale = torch.tensor(scale, dtype=torch.float64)
        self.log_scale = sum(map(math.log, scale)) * (dimensions // len(scale))
        # Whether files need double precision for what the model gives.
        self._wide = not self._alike and bool((self._shift.abs() > FAR * self._scale).any())

    def to_model(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return rows (B, D) in file units, float32 or float64, in the model's scale."""
        if self._alike:
            return ((x - self._shift.item()) / self._scale.item()).to(dtype)
        return ((x.cpu().double() - self._shift) / self._scale).to(dtype)

    def to_file(self, x: Tensor) -> Tensor:
        """Return rows (B, D) of the model's scale in file units.

        Of the type of ``x``, or float64 where a column is so far from zero that float32 would lose
        its spread.
        """
        if self._alike:
            return x * self._scale.item() + self._shift.item()
        y = x.cpu().double() * self._scale + self._shift
        return y if self._wide else y.to(x.dtype)
