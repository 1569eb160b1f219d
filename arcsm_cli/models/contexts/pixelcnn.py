"""PixelCNN++: its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from arcsm_cli.models.networks import NetworkOptions, Want, by_size, size_option
from arcsm_cli.parts import Part


class _Size(NamedTuple):
    filters: int
    resnet_blocks: int
    dropout: float


_SIZES = {
    "small": _Size(32, 2, 0.0),
    "base": _Size(96, 3, 0.25),
    "paper": _Size(160, 5, 0.5),
}
_by_size = partial(by_size, _SIZES, "paper")


@dataclass(frozen=True)
class PixelCNNOptions(NetworkOptions):
    """See `arcsm_cli.models.pixelcnn.PixelCNN`."""

    orders: ClassVar[tuple[str, ...]] = ("raster", "reversed")

    size: str = size_option(
        _SIZES,
        "paper",
        "PixelCNN++ with 32 filters, 2 blocks and no dropout; 96, 3 and 0.25; or as published, "
        "160, 5 and 0.5.",
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
