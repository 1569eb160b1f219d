"""PixelCNN++ as a context network (Salimans et al. 2017): images to contexts, pixel by pixel.

Two streams run through three resolutions and back. The *vertical* stream u at row r has seen the
rows above r; the *horizontal* stream ul at a pixel has seen all pixels before it, and reads u.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import ContextNetwork, IncrementalContexts
from arcsm_cli.models.pixelcnn_incremental import IncrementalPixelCNN
from arcsm_cli.models.pixelcnn_layers import (
    HORIZONTAL,
    PADDING,
    VERTICAL,
    Activated,
    BlockShifts,
    GatedBlock,
    WeightNormalized,
    activate,
    blocks_of,
    layer_of,
)
from arcsm_cli.models.sites import of_earlier
from arcsm_cli.options import stored_options

LEVELS = 3  # resolutions: full, half, quarter


class PixelCNN(ContextNetwork):
    """Gated residual convolutions whose output at a pixel is a function of earlier pixels only.

    Sorted examples are taken as H x W pixels of ``channels`` values each, row by row. With one
    dimension a site and several channels, the context of sub-pixel k is an output of the pixel's
    own plus a linear function of the pixel's sub-pixels before k.

    Arguments:
        shape: (channels, H, W); H and W multiples of 4, for two halvings.
        width: C, the size of a context vector.
        filters: F, channels of both streams.
        blocks: gated blocks a resolution, down; as many or one more on the way up.
        dropout: in the blocks.
        site: 1, or ``channels`` for one context a pixel.

    Raises:
        ValueError: for sizes that two halvings do not allow, or sizes below 1.

    Example:
        >>> net = PixelCNN((3, 8, 4), width=2, filters=4, blocks=1)
        >>> net(torch.zeros(5, 96)).shape
        torch.Size([5, 96, 2])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        filters: int = 160,
        blocks: int = 5,
        dropout: float = 0.5,
        site: int = 1,
    ) -> None:
        channels, height, breadth = shape
        super().__init__(channels * height * breadth, width, site)
        if min(*shape, width, filters, blocks) < 1 or site not in (1, channels):
            raise ValueError("sizes must be at least 1, and a site one value or one pixel")
        if height % 4 or breadth % 4:
            raise ValueError(f"{height} x {breadth} pixels cannot be halved twice")
        self.shape, self.filters, self.blocks = shape, filters, blocks

        def conv(inputs: int, kernel: tuple[int, int], **options: Any) -> WeightNormalized:
            return WeightNormalized(inputs, filters, kernel, **options)

        def block(kernel: tuple[int, int], skips: int) -> GatedBlock:
            return GatedBlock(filters, kernel, skips=skips, dropout=dropout)

        # A channel of ones tells the image from the padding.
        self.first_u = conv(channels + 1, VERTICAL)
        self.first_above = conv(channels + 1, (1, 3))
        self.first_left = conv(channels + 1, (2, 1))
        down = [blocks] * LEVELS
        up = [blocks + 1] * (LEVELS - 1) + [blocks]  # level 0 first, as everywhere
        self.down_u = _nested(down, lambda: block(VERTICAL, 0))
        self.down_ul = _nested(down, lambda: block(HORIZONTAL, 1))
        self.up_u = _nested(up, lambda: block(VERTICAL, 1))
        self.up_ul = _nested(up, lambda: block(HORIZONTAL, 2))
        steps = range(LEVELS - 1)
        self.halve_u = nn.ModuleList(conv(filters, VERTICAL, stride=2) for _ in steps)
        self.halve_ul = nn.ModuleList(conv(filters, HORIZONTAL, stride=2) for _ in steps)
        twice: dict[str, Any] = {"stride": 2, "transposed": True}
        self.double_u = nn.ModuleList(conv(filters, VERTICAL, **twice) for _ in steps)
        self.double_ul = nn.ModuleList(conv(filters, HORIZONTAL, **twice) for _ in steps)
        self.output = WeightNormalized(filters, width * channels // site)
        self.earlier = None
        if site < channels:
            self.earlier = nn.Parameter(torch.zeros(channels, channels, width))

    @classmethod
    def build(cls, config: ModelConfig) -> Self:
        """See `ContextNetwork.build`."""
        shape = (config.shape[0], config.shape[1], config.shape[2])
        filters, blocks, dropout = stored_options(config.network).values()
        return cls(shape, config.context_width, filters, blocks, dropout, config.site)

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D / site, C)."""
        batch = Batch.of(batch)
        x, given = batch.x, batch.given
        channels, height, breadth = self.shape
        # Sorted examples lie pixel by pixel, which is PyTorch's channels-last layout as it is.
        image = x.view(-1, height, breadth, channels).permute(0, 3, 1, 2)
        y = self.output(functional.elu(self._horizontal(image, self.shifts_of_blocks(given))))
        contexts: Tensor = y.permute(0, 2, 3, 1).reshape(len(x), -1, self.width)
        if self.earlier is None:
            return contexts
        pixels = x.view(len(x), -1, channels)
        return contexts + of_earlier(pixels, self.earlier).flatten(1, 2).to(contexts.dtype)

    @classmethod
    def shifted_units(cls, config: ModelConfig) -> tuple[int, ...]:
        """Return F for each gated block: two streams, three resolutions, down and up."""
        own = stored_options(config.network)
        filters, blocks = int(own["filters"]), int(own["resnet_blocks"])
        return (filters,) * (2 * (LEVELS * 2 * blocks + LEVELS - 1))

    def shifts_of_blocks(self, given: Tensor) -> BlockShifts:
        """Return what moves the hidden units of each gated block, (B, F) or None, given (B, G)."""
        parts = (self.down_u, self.down_ul, self.up_u, self.up_ul)
        blocks = [b for part in parts for level in range(LEVELS) for b in blocks_of(part, level)]
        return dict(zip(blocks, self.shifts(given), strict=False))

    def _horizontal(self, image: Tensor, shifts: BlockShifts) -> Tensor:
        """Return the last tensor of the horizontal stream, (B, F, H, W)."""
        inner = functional.pad(torch.cat([image, torch.ones_like(image[:, :1])], 1), (1, 1, 1, 0))
        inner = inner.contiguous(memory_format=torch.channels_last)
        u = _shift_down(self.first_u(inner))
        above = self.first_above(inner[:, :, 1:])
        left = self.first_left(inner[:, :, :, 1:-1])
        ul = _shift_down(above) + functional.pad(left[:, :, :, :-1], (1, 0))
        # The streams keep full precision; only products and activations are lowered.
        us = [activate(u.to(image.dtype), PADDING[VERTICAL])]
        uls = [activate(ul.to(image.dtype), PADDING[HORIZONTAL])]
        for level in range(LEVELS):
            for block_u, block_ul in self._pairs(self.down_u, self.down_ul, level):
                us.append(block_u(us[-1], shift=shifts[block_u]))
                uls.append(block_ul(uls[-1], us[-1], shift=shifts[block_ul]))
            if level < LEVELS - 1:
                us.append(_resized(layer_of(self.halve_u, level), us[-1]))
                uls.append(_resized(layer_of(self.halve_ul, level), uls[-1]))
        u_now, ul_now = us.pop(), uls.pop()
        for level in reversed(range(LEVELS)):
            for block_u, block_ul in self._pairs(self.up_u, self.up_ul, level):
                u_now = block_u(u_now, us.pop(), shift=shifts[block_u])
                ul_now = block_ul(ul_now, u_now, uls.pop(), shift=shifts[block_ul])
            if level > 0:
                u_now = _resized(layer_of(self.double_u, level - 1), u_now)
                ul_now = _resized(layer_of(self.double_ul, level - 1), ul_now)
        return ul_now.raw

    @staticmethod
    def _pairs(
        u: nn.ModuleList, ul: nn.ModuleList, level: int
    ) -> Iterator[tuple[GatedBlock, GatedBlock]]:
        return zip(blocks_of(u, level), blocks_of(ul, level), strict=True)

    def initialise(self, batch: Batch) -> bool:
        """Set gains and biases so that activations start normalised on examples (B, D).

        The data-dependent initialisation of Salimans & Kingma 2016, layer by layer.
        """
        with torch.no_grad(), self._initialising():
            self(batch)
        return True

    @contextmanager
    def _initialising(self) -> Iterator[None]:
        layers = [m for m in self.modules() if isinstance(m, WeightNormalized)]
        was = self.training
        self.eval()
        for layer in layers:
            layer.initialising = True
        try:
            yield
        finally:
            for layer in layers:
                layer.initialising = False
            self.train(was)

    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an evaluation that computes each location of each layer once."""
        return IncrementalPixelCNN(self, given)


def _nested(counts: list[int], make: Callable[[], nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleList(make() for _ in range(count)) for count in counts)


def _shift_down(x: Tensor) -> Tensor:
    return functional.pad(x[:, :, :-1], (0, 0, 1, 0))


def _resized(layer: WeightNormalized, x: Activated) -> Activated:
    """Return the stream at the next resolution; like the first layers, it reads raw tensors."""
    raw = x.raw if layer.transposed else functional.pad(x.raw, (*x.padding, 0))
    return activate(layer(raw).to(x.raw.dtype), x.padding)
