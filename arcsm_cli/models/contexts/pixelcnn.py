"""PixelCNN++: its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from arcsm_cli.models.networks import NetworkOptions, Want
from arcsm_cli.options import option
from arcsm_cli.registry import Part


class _Size(NamedTuple):
    filters: int
    resnet_blocks: int
    dropout: float


_SIZES = {
    "small": _Size(32, 2, 0.0),
    "base": _Size(96, 3, 0.25),
    "paper": _Size(160, 5, 0.5),
}
_DEFAULT = "paper"
_SMALL_DATA = 1024


def _by_size(name: str, help: str, **bounds: Any) -> Any:
    """Return an option whose default is that of the size."""
    return option(
        getattr(_SIZES[_DEFAULT], name),
        help,
        follows=lambda known: getattr(_SIZES[known.size], name),
        shown="by --size",
        **bounds,
    )


@dataclass(frozen=True)
class PixelCNNOptions(NetworkOptions):
    """See `arcsm_cli.models.pixelcnn.PixelCNN`."""

    orders: ClassVar[tuple[str, ...]] = ("raster", "reversed")

    size: str = option(
        _DEFAULT,
        "PixelCNN++ with 32 filters, 2 blocks and no dropout; 96, 3 and 0.25; or as published, "
        "160, 5 and 0.5.",
        choices=tuple(_SIZES),
        stored=False,
        follows=lambda known: "small" if known.dimensions <= _SMALL_DATA else "base",
        shown="small up to 1,024 values, else base",
    )
    filters: int = _by_size("filters", "Channels of PixelCNN++.", metavar="N", least=1, most=4096)
    resnet_blocks: int = _by_size(
        "resnet_blocks",
        "Gated blocks of PixelCNN++ at each of three resolutions.",
        metavar="N",
        least=1,
        most=64,
    )
    dropout: float = _by_size(
        "dropout",
        "Share of activations dropped in the blocks of PixelCNN++, below 1.",
        metavar="P",
        least=0,
        below=1,
    )

    @classmethod
    def wants(cls, shape: tuple[int, ...]) -> Want | None:
        """See `NetworkOptions.wants`."""
        if len(shape) != 3 or shape[0] not in (1, 3):
            return Want("images of 1 or 3 channels", "use made")
        if any(side % 4 for side in shape[1:]):
            return Want("images with sides that are multiples of 4", "use --resize")
        return None


PART = Part(
    "arcsm_cli.models.pixelcnn:PixelCNN",
    "PixelCNN++ (images)",
    ("sites", "given"),
    options=PixelCNNOptions,
)
