"""PixelCNN++ one pixel after another: each location of each layer is computed once.

What a location reads lies in the row above and in its own row, so of every stream tensor two rows
are kept, side by side: a kernel's window is then one contiguous piece and a convolution at a
location one matrix product. The vertical stream depends on finished rows alone and advances a row
at a time; the horizontal stream advances a pixel at a time, and at the lower resolutions at every
second and every fourth pixel of every second and fourth row.

On a GPU a pixel is some hundred tiny kernels, whose launches would take longer than their work.
What is launched depends on the column and the kind of row alone, so it is captured as CUDA graphs
and replayed from the third row of a kind on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arcsm_cli.models.context import IncrementalContexts
from arcsm_cli.models.cuda_graphs import CudaGraphs
from arcsm_cli.models.pixelcnn_layers import (
    BlockShifts,
    GatedBlock,
    WeightNormalized,
    blocks_of,
    layer_of,
)
from arcsm_cli.models.pixelcnn_rows import Rows, Stream, activate, columns, matrix


class Layers(Protocol):
    """What is read of a network, see `arcsm_cli.models.pixelcnn.PixelCNN`."""

    shape: tuple[int, int, int]
    width: int
    filters: int
    first_u: WeightNormalized
    first_above: WeightNormalized
    first_left: WeightNormalized
    down_u: nn.ModuleList
    down_ul: nn.ModuleList
    up_u: nn.ModuleList
    up_ul: nn.ModuleList
    halve_u: nn.ModuleList
    halve_ul: nn.ModuleList
    double_u: nn.ModuleList
    double_ul: nn.ModuleList
    output: WeightNormalized
    earlier: nn.Parameter | None

    def shifts_of_blocks(self, given: Tensor) -> BlockShifts:
        """See `arcsm_cli.models.pixelcnn.PixelCNN.shifts_of_blocks`."""


class _Block:
    """A gated block at one location, or (vertical) at one row."""

    def __init__(
        self, block: GatedBlock, shift: Tensor | None, like: Tensor, batch: int, width: int
    ) -> None:
        filters = block.first.direction.shape[0]
        self.first, self.first_bias = matrix(block.first), block.first.bias.detach()
        self.second, self.second_bias = matrix(block.second), block.second.bias.detach()
        self.skips: list[Tensor] = []
        if block.skip is not None:
            self.skips = list(torch.split(matrix(block.skip), 2 * filters))
            self.first_bias = self.first_bias + block.skip.bias.detach()
        self.shifted = shift is not None
        if shift is not None:  # each row's own, (B, 1, F)
            self.first_bias = (self.first_bias + shift)[:, None]
        self.inner = Rows(like, batch, width, 2 * filters, right=block.padding[1])
        # Of a horizontal block: what the biases and the vertical stream add, for the whole row.
        self.base = like.new_zeros(batch, width, filters)

    def vertical(self, raw: Tensor, source: Stream, skip: Stream | None) -> Tensor:
        """Return the next tensor's present row (B, W, F) of the vertical stream."""
        y = source.act.windows() @ self.first + self.first_bias
        if skip is not None:
            y = y + skip.act.row() @ self.skips[0]
        activate(y, self.inner.row())
        z = self.inner.windows() @ self.second + self.second_bias
        return raw + nn.functional.glu(z, -1)

    def prepare(self, u: Stream) -> None:
        """Read the vertical stream's present row, of a horizontal block."""
        torch.add(u.act.row() @ self.skips[0], self.first_bias, out=self.base)

    def horizontal(self, raw: Tensor, source: Stream, c: int, skip: Stream | None) -> Tensor:
        """Return the next tensor (B, F) of the horizontal stream at column c."""
        y = torch.addmm(self.base[:, c], source.act.window(c), self.first)
        if skip is not None:
            y.addmm_(skip.act.at(c), self.skips[1])
        activate(y, self.inner.at(c))
        z = torch.addmm(self.second_bias, self.inner.window(c), self.second)
        return nn.functional.glu(z, 1).add_(raw)


class _Level:
    """All layers of one resolution, and the buffers between them."""

    def __init__(self, net: Layers, level: int, shifts: BlockShifts, batch: int) -> None:
        like, filters = net.output.bias.detach(), net.filters
        self.width = width = net.shape[2] >> level
        last = level == len(net.down_u) - 1

        def blocks(part: nn.ModuleList) -> list[_Block]:
            return [
                _Block(block, shifts[block], like, batch, width) for block in blocks_of(part, level)
            ]

        def streams(count: int, right: int) -> list[Stream]:
            return [Stream(like, batch, width, filters, right) for _ in range(count)]

        self.down_u, self.down_ul = blocks(net.down_u), blocks(net.down_ul)
        self.up_u, self.up_ul = blocks(net.up_u), blocks(net.up_ul)
        down, up = len(self.down_u), len(self.up_u)
        self.us, self.uls = streams(down + 1, 1), streams(down + 1, 0)
        # On the way up; at the lowest resolution it begins with the last tensor of the way down.
        begin_u = [self.us[-1]] if last else streams(1, 1)
        begin_ul = [self.uls[-1]] if last else streams(1, 0)
        self.up_us, self.up_uls = begin_u + streams(up, 1), begin_ul + streams(up, 0)
        self.u_end = like.new_zeros(batch, width, filters)
        self.ul_end = like.new_zeros(batch, width, filters)
        if not last:
            self.us[-1].keep_raw()
            self.uls[-1].keep_raw()
            self.halve_u, self.halve_ul = (
                (matrix(layer), layer.bias.detach())
                for layer in (layer_of(net.halve_u, level), layer_of(net.halve_ul, level))
            )
            double_u, double_ul = layer_of(net.double_u, level), layer_of(net.double_ul, level)
            self.double_u = (double_u.weight().detach(), double_u.bias.detach())
            # By row and column within the 2 x 2 pixels that one location becomes.
            self.double_ul = double_ul.weight().permute(2, 3, 0, 1).contiguous()
            self.double_ul_bias = double_ul.bias.detach()
        inner = [b.inner for b in (*self.down_u, *self.down_ul, *self.up_u, *self.up_ul)]
        tensors = {id(s): s for s in (*self.us, *self.uls, *self.up_us, *self.up_uls)}
        self.buffers = inner + [rows for s in tensors.values() for rows in s.rows()]

    def tensors(self) -> list[Tensor]:
        """Return all that is carried from one location to the next."""
        bases = [block.base for block in (*self.down_ul, *self.up_ul)]
        blocks = (*self.down_u, *self.down_ul, *self.up_u, *self.up_ul)
        bases += [block.first_bias for block in blocks if block.shifted]
        return [rows.data for rows in self.buffers] + bases + [self.u_end, self.ul_end]

    def begin(self) -> None:
        """Begin a row of this resolution."""
        for rows in self.buffers:
            rows.begin()

    def down_row(self, u: Tensor) -> Tensor:
        """Run the vertical stream's present row (B, W, F) through the way down."""
        self.us[0].put_row(u)
        for block, reader, source, target in zip(
            self.down_u, self.down_ul, self.us, self.us[1:], strict=False
        ):
            u = block.vertical(u, source, None)
            target.put_row(u)
            reader.prepare(target)
        return u

    def up_row(self, u: Tensor) -> None:
        """Run it through the way up; ends in ``u_end``."""
        if self.up_us[0] is not self.us[-1]:
            self.up_us[0].put_row(u)
        skips = self._skips(self.us, self.up_us[0])
        for i, (block, reader) in enumerate(zip(self.up_u, self.up_ul, strict=True)):
            u = block.vertical(u, self.up_us[i], skips[i])
            self.up_us[i + 1].put_row(u)
            reader.prepare(self.up_us[i + 1])
        self.u_end.copy_(u)

    def down(self, ul: Tensor, c: int) -> Tensor:
        """Run the horizontal stream at column c, (B, F), through the way down."""
        self.uls[0].put(ul, c)
        for i, block in enumerate(self.down_ul):
            ul = block.horizontal(ul, self.uls[i], c, None)
            self.uls[i + 1].put(ul, c)
        return ul

    def up(self, ul: Tensor, c: int) -> None:
        """Run it through the way up; ends in column c of ``ul_end``."""
        if self.up_uls[0] is not self.uls[-1]:
            self.up_uls[0].put(ul, c)
        skips = self._skips(self.uls, self.up_uls[0])
        for i, block in enumerate(self.up_ul):
            ul = block.horizontal(ul, self.up_uls[i], c, skips[i])
            self.up_uls[i + 1].put(ul, c)
        self.ul_end[:, c] = ul

    @staticmethod
    def _skips(tensors: list[Stream], first: Stream) -> list[Stream]:
        """Return the tensors of the way down in the order in which the way up reads them."""
        return [s for s in reversed(tensors) if s is not first]


class IncrementalPixelCNN(IncrementalContexts):
    """Contexts of the pixels of a batch in turn; see the module's text.

    Arguments:
        net: the network; its weights must not change meanwhile.
        given: (B, G), what is given of B examples.
    """

    @torch.no_grad()
    def __init__(self, net: Layers, given: Tensor) -> None:
        self.net, batch = net, len(given)
        shifts = net.shifts_of_blocks(given)
        channels, _, width = net.shape
        like = net.output.bias.detach()
        self.levels = [_Level(net, level, shifts, batch) for level in range(len(net.down_u))]
        # Values and a one for each known pixel: the two rows above and the present one.
        self.image = like.new_zeros(batch, width + 2, 3, channels + 1)
        self.above = like.new_zeros(batch, width, net.filters)
        self.first_u, self.first_above, self.first_left = (
            (matrix(layer), layer.bias.detach())
            for layer in (net.first_u, net.first_above, net.first_left)
        )
        self.output, self.output_bias = matrix(net.output), net.output.bias.detach()
        self.features = like.new_zeros(batch, self.output.shape[1])
        self.pixel = like.new_zeros(batch, channels)
        self.earlier = None
        if net.earlier is not None:
            self.earlier = net.earlier.detach()
        self.row = self.column = self.channel = 0
        self.graphs = CudaGraphs() if like.is_cuda else None
        self._begin_row()
        self._advance()

    def contexts(self) -> Tensor:
        """Return the contexts (B, C) of the next dimension's site."""
        width, k = self.net.width, self.channel
        if self.earlier is None:
            return self.features.clone()
        context = self.features[:, k * width : (k + 1) * width]
        if k == 0:
            return context.clone()
        return torch.addmm(context, self.pixel[:, :k], self.earlier[k, :k])

    @torch.no_grad()
    def append(self, x: Tensor) -> None:
        """Fix the values (B,) of the next dimension."""
        self.pixel[:, self.channel] = x
        self.channel += 1
        channels, height, width = self.net.shape
        if self.channel < channels:
            return
        self.channel = 0
        self.image[:, self.column + 1, 2, :channels] = self.pixel
        self.image[:, self.column + 1, 2, channels] = 1
        self.column += 1
        if self.column == width:
            self.column, self.row = 0, self.row + 1
            if self.row == height:
                return
            self._begin_row()
        self._advance()

    @torch.no_grad()
    def select(self, rows: Tensor) -> None:
        """Go on with these rows (B,) of the batch."""
        own = [self.image, self.above, self.features, self.pixel]
        for tensor in own + [t for level in self.levels for t in level.tensors()]:
            tensor.copy_(tensor[rows])

    def _begin_row(self) -> None:
        first, phase = self.row == 0, self._phase()
        self._run(("row", first, phase), lambda: self._vertical(first, phase))

    def _advance(self) -> None:
        phase, c = self._phase(), self.column
        self._run(("pixel", phase, c), lambda: self._horizontal(phase, c))

    def _phase(self) -> int:
        """Return the kind of the present row: 0, 2 (which begin rows below) or, if odd, 1."""
        return 1 if self.row % 2 else self.row % 4

    def _run(self, key: tuple[Any, ...], work: Callable[[], None]) -> None:
        if self.graphs is None:
            work()
        else:
            self.graphs.run(key, work)

    def _vertical(self, first: bool, phase: int) -> None:
        """Begin a row: run the vertical stream, and what the horizontal one takes from it."""
        levels = self.levels
        if not first:
            self.image[:, :, :2] = self.image[:, :, 1:].clone()
            self.image[:, :, 2] = 0
        active = (len(levels), 1, 2)[phase]
        for level in levels[:active]:
            level.begin()
        if first:
            u = torch.zeros_like(self.above)
        else:
            weight, bias = self.first_u
            u = columns(self.image[:, :, :2]) @ weight + bias
            weight, bias = self.first_above
            torch.add(columns(self.image[:, :, 1:2]) @ weight, bias, out=self.above)
        for k in range(active):
            u = levels[k].down_row(u)
            if k + 1 < active:
                weight, bias = levels[k].halve_u
                raw = levels[k].us[-1].raw
                assert raw is not None
                u = raw.windows(stride=2) @ weight + bias
        # Below the lowest resolution that begins a row, the row begun before still serves.
        for k in reversed(range(active)):
            if k + 1 < len(levels):
                weight, bias = levels[k].double_u
                half = (phase >> k) % 2
                u = nn.functional.conv_transpose1d(
                    levels[k + 1].u_end.transpose(1, 2),
                    weight[:, :, half],
                    bias,
                    stride=2,
                    padding=1,
                    output_padding=1,
                ).transpose(1, 2)
            levels[k].up_row(u)

    def _horizontal(self, phase: int, c: int) -> None:
        """Compute the present pixel's features."""
        levels = self.levels
        active = 1
        while active < len(levels) and phase % (1 << active) == 0 and c % (1 << active) == 0:
            active += 1
        ul = self.above[:, c]
        if c > 0:
            weight, bias = self.first_left
            ul = ul + torch.addmm(bias, self.image[:, c, 1:].flatten(1), weight)
        for k in range(active):
            ul = levels[k].down(ul, c >> k)
            if k + 1 < active:
                weight, bias = levels[k].halve_ul
                raw = levels[k].uls[-1].raw
                assert raw is not None
                ul = torch.addmm(bias, raw.window(c >> k), weight)
        for k in reversed(range(active)):
            at = c >> k
            if k + 1 < len(levels):
                weight = levels[k].double_ul[(phase >> k) % 2, at % 2]
                bias = levels[k].double_ul_bias
                ul = torch.addmm(bias, levels[k + 1].ul_end[:, at >> 1], weight)
            levels[k].up(ul, at)
        last = nn.functional.elu(levels[0].ul_end[:, c])
        torch.addmm(self.output_bias, last, self.output, out=self.features)
