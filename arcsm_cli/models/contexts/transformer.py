"""The transformer: its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from arcsm_cli.models.networks import NetworkOptions, by_size, size_option
from arcsm_cli.parts import Part


class _Size(NamedTuple):
    layers: int
    heads: int
    width: int


_SIZES = {"small": _Size(3, 4, 64), "base": _Size(6, 8, 256)}
_by_size = partial(by_size, _SIZES, "small", metavar="N", least=1)


@dataclass(frozen=True)
class TransformerOptions(NetworkOptions):
    """See `arcsm_cli.models.transformer.Transformer`."""

    orders: ClassVar[tuple[str, ...]] = (*NetworkOptions.orders, "any")

    rates: ClassVar[tuple[float, float]] = (2e-3, 2e-3)

    size: str = size_option(
        _SIZES, "small", "transformer: 3 layers, 4 heads and 64 units; base: 6, 8 and 256."
    )
    layers: int = _by_size("layers", "Blocks of the transformer.", most=256)
    heads: int = _by_size("heads", "Attention heads of a block.", most=256)
    width: int = _by_size(
        "width", "Units of the transformer's stream, a multiple of 4 for each head.", most=1 << 14
    )

    def problem(self) -> str | None:
        """See `NetworkOptions.problem`."""
        odd = self.width % (4 * self.heads)
        return f"width must be a multiple of 4 heads, {4 * self.heads}" if odd else None


PART = Part(
    "arcsm_cli.models.transformer:Transformer",
    "causal self-attention (any data)",
    ("sites", "given"),
    options=TransformerOptions,
)
