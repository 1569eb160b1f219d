"""The options of the context networks, known without importing PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from arcsm_cli.options import option


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a context network that has none, and the base of others'.

    A network's options are a frozen dataclass derived from this one, whose fields are `option`s;
    checkpoints hold their values.
    """

    orders: ClassVar[tuple[str, ...]] = ("raster", "reversed", "random")
    """The orders of the variables that the network can follow."""

    @classmethod
    def wants(cls, shape: tuple[int, ...]) -> Want | None:
        """Return what the network takes, if examples of this shape are none of it, or None."""
        return None

    def problem(self) -> str | None:
        """Return what makes these values unusable, beside their bounds, or None."""
        return None


class Want(NamedTuple):
    """What a context network takes, as messages say it, and what helps other data."""

    taken: str
    remedy: str


def _widths(known: Any) -> tuple[int, ...]:
    if known.dimensions <= 16:
        return 64, 64
    return (512, 512) if known.dimensions <= 256 else (1024, 1024)


@dataclass(frozen=True)
class MADEOptions(NetworkOptions):
    """See `arcsm_cli.models.made.MADE`."""

    hidden: tuple[int, ...] = option(
        (1024, 1024),
        "Hidden layers of MADE.",
        metavar="N,N,...",
        follows=_widths,
        shown="64,64 to 1024,1024 by the data's size",
    )
    residual: bool = option(False, "Residual hidden layers of MADE (of one size).")

    def problem(self) -> str | None:
        """See `NetworkOptions.problem`."""
        unequal = self.residual and len(set(self.hidden)) > 1
        return "residual layers must have one size" if unequal else None


class _Size(NamedTuple):
    filters: int
    resnet_blocks: int
    dropout: float


_SIZES = {
    "small": _Size(32, 2, 0.0),
    "base": _Size(96, 3, 0.25),
    "paper": _Size(160, 5, 0.5),
}


@dataclass(frozen=True)
class PixelCNNOptions(NetworkOptions):
    """See `arcsm_cli.models.pixelcnn.PixelCNN`."""

    orders: ClassVar[tuple[str, ...]] = ("raster", "reversed")

    size: str = option(
        "paper",
        "PixelCNN++ with 32 filters, 2 blocks and no dropout; 96, 3 and 0.25; or as published, "
        "160, 5 and 0.5.",
        choices=tuple(_SIZES),
        stored=False,
    )
    filters: int = option(
        160,
        "Channels of PixelCNN++.",
        metavar="N",
        least=1,
        most=4096,
        follows=lambda known: _SIZES[known.size].filters,
        shown="by --size",
    )
    resnet_blocks: int = option(
        5,
        "Gated blocks of PixelCNN++ at each of three resolutions.",
        metavar="N",
        least=1,
        most=64,
        follows=lambda known: _SIZES[known.size].resnet_blocks,
        shown="by --size",
    )
    dropout: float = option(
        0.5,
        "Share of activations dropped in the blocks of PixelCNN++, below 1.",
        metavar="P",
        least=0,
        below=1,
        follows=lambda known: _SIZES[known.size].dropout,
        shown="by --size",
    )

    @classmethod
    def wants(cls, shape: tuple[int, ...]) -> Want | None:
        """See `NetworkOptions.wants`."""
        if len(shape) != 3 or shape[0] not in (1, 3):
            return Want("images of 1 or 3 channels", "use made")
        if any(side % 4 for side in shape[1:]):
            return Want("images with sides that are multiples of 4", "use --resize")
        return None
