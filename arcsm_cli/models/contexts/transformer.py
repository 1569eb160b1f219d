"""The transformer: its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from arcsm_cli.models.networks import NetworkOptions
from arcsm_cli.options import option
from arcsm_cli.registry import Part


class _Size(NamedTuple):
    layers: int
    heads: int
    width: int


_SIZES = {"small": _Size(3, 4, 64), "base": _Size(6, 8, 256)}
_SMALL_DATA = 1024  # values of an example that the small one is meant for


def _by_size(name: str, help: str, **bounds: Any) -> Any:
    """Return an option whose default is that of the size."""
    return option(
        getattr(_SIZES["small"], name),
        help,
        metavar="N",
        least=1,
        follows=lambda known: getattr(_SIZES[known.size], name),
        shown="by --size",
        **bounds,
    )


@dataclass(frozen=True)
class TransformerOptions(NetworkOptions):
    """See `arcsm_cli.models.transformer.Transformer`."""

    orders: ClassVar[tuple[str, ...]] = (*NetworkOptions.orders, "any")

    rates: ClassVar[tuple[float, float]] = (2e-3, 2e-3)

    size: str = option(
        "small",
        "transformer: 3 layers, 4 heads and 64 units; base: 6, 8 and 256.",
        choices=tuple(_SIZES),
        stored=False,
        follows=lambda known: "small" if known.dimensions <= _SMALL_DATA else "base",
        shown="small up to 1,024 values, else base",
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
