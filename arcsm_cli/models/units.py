"""From the units of files to a model's scale and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arcsm_cli.data.precision import FAR


class FileUnits:
    """model value = (file value - shift) / scale, column by column.

    Columns with a scale of their own are shifted in double precision: of values far from zero
    single precision would leave little.

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
        self._numbers = tuple(torch.tensor(n, dtype=torch.float64) for n in (shift, scale))
        self._one = (shift[0], scale[0]) if len(shift) == len(scale) == 1 else None
        self._columns: dict[str, tuple[Tensor, Tensor]] = {}
        self.log_scale = sum(map(math.log, scale)) * (dimensions // len(scale))
        # Whether files need double precision for what the model gives.
        far = self._numbers[0].abs() > FAR * self._numbers[1]
        self._wide = self._one is None and bool(far.any())

    def to_model(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return rows (B, D) in file units, float32 or float64, in the model's scale."""
        if self._one:
            return ((x - self._one[0]) / self._one[1]).to(dtype)
        shift, scale, wide = self._of_columns(x)
        return ((wide - shift) / scale).to(x.device, dtype)

    def to_file(self, x: Tensor) -> Tensor:
        """Return rows (B, D) of the model's scale in file units.

        Of the type of ``x``, or float64 where a column is so far from zero that float32 would lose
        its spread; such rows come back on a device that has float64.
        """
        if self._one:
            return x * self._one[1] + self._one[0]
        shift, scale, wide = self._of_columns(x)
        y = wide * scale + shift
        return y if self._wide else y.to(x.device, x.dtype)

    def _of_columns(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift, scale and values in double precision, where the values are or nearest."""
        device = torch.device("cpu") if x.device.type == "mps" else x.device
        if str(device) not in self._columns:  # a copy waits for the device: once
            shift, scale = (numbers.to(device) for numbers in self._numbers)
            self._columns[str(device)] = shift, scale
        return *self._columns[str(device)], x.to(device, torch.float64)
