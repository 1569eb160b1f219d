"""How a context network is told what an example is conditioned on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 64


class Shifts(nn.Module):
    """Maps what is given of an example to a shift of each unit of several layers.

    One embedding, a perceptron of two layers, serves all layers, each of which has a linear map of
    it as biases of the example's own (as PixelCNN and its kin are conditioned: van den Oord et al.
    2016, equation 4). A shift is the same at all dimensions, so a context still is a function of
    earlier dimensions, and of what is given.

    Arguments:
        features: F, how many numbers are given of an example.
        units: of each layer.

    Example:
        >>> [shift.shape for shift in Shifts(3, (8, 5))(torch.zeros(2, 3))]
        [torch.Size([2, 8]), torch.Size([2, 5])]
    """

    def __init__(self, features: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.units = units
        self.embedding = nn.Sequential(
            nn.Linear(features, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU()
        )
        self.layers = nn.Linear(_WIDTH, sum(units), bias=False)

    @staticmethod
    def parameter_count(features: int, units: tuple[int, ...]) -> int:
        """Return the number of weights without building them."""
        return _WIDTH * (features + _WIDTH + 2 + sum(units))

    def forward(self, given: Tensor) -> tuple[Tensor, ...]:
        """Map what is given of B examples, (B, F), to shifts (B, units) of each layer."""
        shifts: Tensor = self.layers(self.embedding(given.to(self.layers.weight)))
        return torch.split(shifts, list(self.units), 1)


def shifted(y: Tensor, shift: Tensor | None) -> Tensor:
    """Return units y (B, U, ...) moved by a shift (B, U), or as they are where there is none."""
    return y if shift is None else y + shift.view(*shift.shape, *[1] * (y.dim() - 2))
