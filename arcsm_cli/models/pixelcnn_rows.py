"""Rows of PixelCNN++'s activations, two at a time: what its convolutions read at a location."""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.models.pixelcnn_layers import WeightNormalized


class Rows:
    """The present row of a tensor and the one above it: (B, 1 + W + right, 2, C), zero outside."""

    def __init__(self, like: Tensor, batch: int, width: int, channels: int, right: int) -> None:
        self.width = width
        self.data = like.new_zeros(batch, 1 + width + right, 2, channels)

    def begin(self) -> None:
        """Begin a row: the present one becomes the one above."""
        self.data[:, :, 0] = self.data[:, :, 1]

    def at(self, c: int) -> Tensor:
        """Return the place of column c of the present row, (B, C)."""
        return self.data[:, 1 + c, 1]

    def row(self) -> Tensor:
        """Return the place of the whole present row, (B, W, C)."""
        return self.data[:, 1 : 1 + self.width, 1]

    def window(self, c: int) -> Tensor:
        """Return what a horizontal kernel sees at column c: (B, 2 columns x 2 rows x C)."""
        return self.data[:, c : c + 2].flatten(1)

    def windows(self, stride: int = 1) -> Tensor:
        """Return what a vertical kernel sees at every (second) column: (B, W', 3 x 2 x C)."""
        return columns(self.data, stride)


def columns(data: Tensor, stride: int = 1) -> Tensor:
    """Return windows three columns wide of data (B, columns, rows, C): (B, W', 3 rows C)."""
    return data.unfold(1, 3, stride).permute(0, 1, 4, 2, 3).flatten(2)


def matrix(layer: WeightNormalized) -> Tensor:
    """Return a convolution's weights as (columns x rows x inputs, outputs)."""
    weight = layer.weight()
    return weight.permute(3, 2, 1, 0).reshape(-1, weight.shape[0]).contiguous()


def activate(x: Tensor, out: Tensor) -> None:
    """Write ELU([x, -x]) of x (..., F) to out (..., 2F); see `pixelcnn_layers.concat_elu`."""
    below = x.abs().neg_().exp_().sub_(1)
    f = x.shape[-1]
    torch.maximum(x, below, out=out[..., :f])
    torch.maximum(-x, below, out=out[..., f:])


class Stream:
    """A stream tensor: rows of its activation and, where a halving reads it, of itself."""

    def __init__(self, like: Tensor, batch: int, width: int, filters: int, right: int) -> None:
        self.act = Rows(like, batch, width, 2 * filters, right)
        self.raw: Rows | None = None
        self._make = (like, batch, width, filters, right)

    def keep_raw(self) -> None:
        """Also keep the tensor itself."""
        self.raw = Rows(*self._make)

    def rows(self) -> list[Rows]:
        """Return what begins a row."""
        return [self.act] if self.raw is None else [self.act, self.raw]

    def put(self, x: Tensor, c: int) -> None:
        """Set column c of the present row to x (B, F)."""
        activate(x, self.act.at(c))
        if self.raw is not None:
            self.raw.at(c).copy_(x)

    def put_row(self, x: Tensor) -> None:
        """Set the present row to x (B, W, F)."""
        activate(x, self.act.row())
        if self.raw is not None:
            self.raw.row().copy_(x)
