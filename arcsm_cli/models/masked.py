"""A masked linear layer whose units are sorted by degree (Germain et al. 2015), computed in blocks.

Sorting inputs and outputs by degree makes the mask a staircase: output row i may use the first
``reach[i]`` inputs and no others. Cutting the rows into blocks then skips the zero corner of the
matrix (almost half of the arithmetic), and an incremental evaluation is a walk down the staircase.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.models.once import by_hand, differentiable_once

# Below this many weights the calls cost more than the skipped arithmetic saves.
_BLOCKED_FROM = 200_000
_BLOCKS = 8


class _Block(NamedTuple):
    """Rows [start, stop): all of them use inputs [0, full), some use inputs up to ``reach``.

    ``edge`` is where the mask of the inputs between lies among those of all blocks.
    """

    start: int
    stop: int
    full: int
    reach: int
    edge: slice

    def masked(self, weight: Tensor, edges: Tensor) -> Tensor:
        """Return the ragged edge of the block, masked: (rows, reach - full)."""
        ragged = weight[self.start : self.stop, self.full : self.reach]
        return ragged * edges[self.edge].view_as(ragged)


class MaskedLinear(nn.Module):
    """y = (M * W) x + b with M[i, j] = 1 where input degree j <= (or <) output degree i.

    Arguments:
        in_degrees: int64 tensor (in,), ascending.
        out_degrees: int64 tensor (out,), ascending.
        strict: compare with ``<`` (the output layer of MADE) instead of ``<=``.

    Raises:
        ValueError: if the degrees are not sorted.
    """

    reach: Tensor
    edges: Tensor

    def __init__(self, in_degrees: Tensor, out_degrees: Tensor, *, strict: bool = False) -> None:
        super().__init__()
        if (in_degrees.diff() < 0).any() or (out_degrees.diff() < 0).any():
            raise ValueError("degrees must be sorted in ascending order")
        # searchsorted: how many inputs have a degree below (strict) or up to that of each output.
        reach = torch.searchsorted(in_degrees, out_degrees, right=not strict)
        self.register_buffer("reach", reach, persistent=False)
        self.weight = nn.Parameter(torch.empty(len(out_degrees), len(in_degrees)))
        self.bias = nn.Parameter(torch.zeros(len(out_degrees)))
        fan_in = reach.clamp(min=1).to(torch.float32)
        with torch.no_grad():
            nn.init.uniform_(self.weight, -1.0, 1.0)
            self.weight.mul_(fan_in.rsqrt()[:, None]).mul_(self.mask())
        blocks = min(_BLOCKS, len(reach)) if self.weight.numel() >= _BLOCKED_FROM else 1
        rows = [round(len(out_degrees) * b / blocks) for b in range(blocks + 1)]
        self.blocks: list[_Block] = []
        mask, edges, place = self.mask(), [], 0
        for start, stop in itertools.pairwise(rows):
            full, last = int(reach[start]), int(reach[stop - 1])
            if blocks == 1:  # its edge is the whole mask
                full, last = 0, mask.shape[1]
            edges.append(mask[start:stop, full:last].flatten())
            edge = slice(place, place + len(edges[-1]))
            self.blocks.append(_Block(start, stop, full, last, edge))
            place = edge.stop
        # Made once: numbers, since truth values would be turned into such at each product.
        self.register_buffer("edges", torch.cat(edges), persistent=False)

    def mask(self) -> Tensor:
        """Return the whole mask, (out, in), in the weight's dtype."""
        columns = torch.arange(self.weight.shape[1], device=self.reach.device)
        return (columns < self.reach[:, None]).to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (B, in) to (B, out)."""
        if len(self.blocks) == 1 or not by_hand(compiled=True):
            mask = self.edges.view_as(self.weight) if len(self.blocks) == 1 else self.mask()
            y = functional.linear(x, self.weight * mask, self.bias)
            return y.to(x.dtype)  # autocast lowers the product, not what it returns
        blocked: Tensor = _BlockedLinear.apply(x, self.weight, self.bias, self.edges, self.blocks)
        return blocked


def _products(
    weight: Tensor, edges: Tensor, block: _Block, dtype: torch.dtype
) -> list[tuple[slice, Tensor]]:
    """Return the block's two factors, (columns, weight) each: what all rows use, and the edge.

    The first part is a view where no other dtype is asked for: a copy would cost as much as the
    product.
    """
    full, edge = slice(0, block.full), slice(block.full, block.reach)
    return [
        (full, weight[block.start : block.stop, full].to(dtype)),
        (edge, block.masked(weight, edges).to(dtype)),
    ]


class _BlockedLinear(torch.autograd.Function):
    """The staircase product block by block, forward and backward.

    Plain autograd through slices of the weight would build one full-sized gradient per slice.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, edges: Tensor, blocks: list[_Block]
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        low = x.to(dtype)
        y = x.new_empty(x.shape[0], weight.shape[0])
        for block in blocks:
            out = y[:, block.start : block.stop].copy_(bias[block.start : block.stop])
            for columns, w in _products(weight, edges, block, dtype):
                if dtype == y.dtype:
                    out.addmm_(low[:, columns], w.T)
                else:
                    out += low[:, columns] @ w.T
        ctx.save_for_backward(low, weight, edges)
        ctx.blocks, ctx.dtype = blocks, dtype
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        low, weight, edges = ctx.saved_tensors
        grad_low = grad.to(ctx.dtype)
        need_x = ctx.needs_input_grad[0]
        grad_x = torch.zeros(low.shape, dtype=grad.dtype, device=grad.device)
        grad_weight = torch.empty_like(weight)
        for block in ctx.blocks:
            g = grad_low[:, block.start : block.stop]
            if need_x:
                for columns, w in _products(weight, edges, block, ctx.dtype):
                    if ctx.dtype == grad.dtype:
                        grad_x[:, columns].addmm_(g, w)
                    else:
                        grad_x[:, columns] += g @ w
            rows = grad_weight[block.start : block.stop]
            rows[:, block.reach :] = 0
            if ctx.dtype == grad.dtype:
                torch.mm(g.T, low[:, : block.reach], out=rows[:, : block.reach])
            else:
                rows[:, : block.reach] = g.T @ low[:, : block.reach]
            rows[:, block.full : block.reach] = block.masked(grad_weight, edges)
        return (grad_x if need_x else None), grad_weight, grad.sum(0), None, None
