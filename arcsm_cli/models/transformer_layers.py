"""What the transformer is made of: embedded and rotary positions, and blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SPREAD = 0.1
"""Of embeddings at first."""
_EXPANSION = 4  # units of a block's perceptron for each of the stream


class Positions(nn.Module):
    """Where places are: an embedding of rows and columns, or of each variable of vectors.

    Arguments:
        grid: (H, W), or (D,).
        units: of the embedding.
    """

    def __init__(self, grid: tuple[int, ...], units: int) -> None:
        super().__init__()
        self.grid = grid
        self.tables = nn.ParameterList(
            nn.Parameter(torch.randn(side, units) * SPREAD) for side in grid
        )

    def forward(self, places: Tensor) -> Tensor:
        """Map places (..., ), their flat numbers, to (..., units)."""
        parts = zip(self.tables, coordinates(places, self.grid), strict=True)
        return torch.stack([functional.embedding(at, table) for table, at in parts]).sum(0)


def coordinates(places: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return row and column of places, or on a line the places themselves."""
    return (places,) if len(grid) == 1 else (places // grid[1], places % grid[1])


class Turns(nn.Module):
    """Rotary positions: pairs of a head's units are turned by the row, others by the column.

    Arguments:
        grid: (H, W), or (D,), whose variables have no distances: nothing is turned then.
        units: of a head, a multiple of 4.
    """

    frequencies: Tensor

    def __init__(self, grid: tuple[int, ...], units: int) -> None:
        super().__init__()
        self.grid = grid
        steps = torch.arange(units // 4) / max(1, units // 4)
        self.register_buffer("frequencies", max(grid) ** -steps, persistent=False)

    def angles(self, places: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return cosines and sines for places (B, T), (B, 1, T, units / 2) each."""
        if len(self.grid) == 1:
            return None
        parts = [at[..., None] * self.frequencies for at in coordinates(places, self.grid)]
        angle = torch.cat(parts, -1)[:, None]
        return angle.cos(), angle.sin()

    @staticmethod
    def turned(x: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        """Turn queries or keys (B, heads, T, units)."""
        if angles is None:
            return x
        cos, sin = angles
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


class Block(nn.Module):
    """x + attention, + perceptron, each of the normalised stream; both are 0 at first."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(units)
        self.read = nn.Linear(units, 3 * units, bias=False)
        self.write = nn.Linear(units, units)
        self.between = nn.LayerNorm(units)
        self.widen = nn.Linear(units, _EXPANSION * units)
        self.narrow = nn.Linear(_EXPANSION * units, units)
        for layer in (self.write, self.narrow):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, heads, T, ...) of a stream (B, T, units)."""
        q, k, v = self.read(self.before(x)).chunk(3, -1)
        split = (*x.shape[:2], self.heads, x.shape[-1] // self.heads)
        q, k, v = (t.view(split).transpose(1, 2) for t in (q, k, v))
        return q, k, v

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the stream (B, T, units) with what was attended to, (B, heads, T, ...)."""
        x = x + self.write(attended.transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(functional.gelu(self.widen(self.between(x))))
        return found
