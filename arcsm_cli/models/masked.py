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

# Below this many weights the calls cost more than the skipped arithmetic saves.
_BLOCKED_FROM = 200_000
_BLOCKS = 8


class _Block(NamedTuple):
    """Rows [start, stop): all of them use inputs [0, full), some use inputs up to ``reach``."""

    start: int
    stop: int
    full: int
    reach: int


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
        blocks = _BLOCKS if self.weight.numel() >= _BLOCKED_FROM else 1
        rows = [round(len(out_degrees) * b / blocks) for b in range(blocks + 1)]
        self.blocks = [
            _Block(a, z, int(reach[a]), int(reach[z - 1]))
            for a, z in itertools.pairwise(rows)
            if z > a
        ]

    def mask(self) -> Tensor:
        """Return the whole mask, (out, in), in the weight's dtype."""
        columns = torch.arange(self.weight.shape[1], device=self.reach.device)
        return (columns < self.reach[:, None]).to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (B, in) to (B, out)."""
        if len(self.blocks) == 1:
            return functional.linear(x, self.weight * self.mask(), self.bias)
        y: Tensor = _BlockedLinear.apply(x, self.weight, self.bias, self.reach, self.blocks)
        return y


def _block_weight(weight: Tensor, reach: Tensor, block: _Block, dtype: torch.dtype) -> Tensor:
    """Return the masked weight (rows, block.reach) of one block; only the ragged edge is masked."""
    w = weight[block.start : block.stop, : block.reach].to(dtype, copy=True)
    columns = torch.arange(block.full, block.reach, device=reach.device)
    w[:, block.full :].mul_(columns < reach[block.start : block.stop, None])
    return w


class _BlockedLinear(torch.autograd.Function):
    """The staircase product block by block, forward and backward.

    Plain autograd through slices of the weight would build one full-sized gradient per slice.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reach: Tensor, blocks: list[_Block]
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        x_low = x.to(dtype)
        y = x.new_empty(x.shape[0], weight.shape[0])
        kept = []
        for block in blocks:
            w = _block_weight(weight, reach, block, dtype)
            torch.add(
                x_low[:, : block.reach] @ w.T,
                bias[block.start : block.stop],
                out=y[:, block.start : block.stop],
            )
            kept.append(w)
        # A reduced-precision copy is half the size and already made: keep it for the backward.
        ctx.save_for_backward(x_low, weight, reach, *(kept if dtype != x.dtype else ()))
        ctx.blocks, ctx.dtype = blocks, dtype
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_low, weight, reach, *kept = ctx.saved_tensors
        grad_low = grad.to(ctx.dtype)
        need_x = ctx.needs_input_grad[0]
        grad_x = torch.zeros(x_low.shape, dtype=grad.dtype, device=grad.device) if need_x else None
        grad_weight = torch.zeros_like(weight)
        for i, block in enumerate(ctx.blocks):
            g = grad_low[:, block.start : block.stop]
            if grad_x is not None:
                w = kept[i] if kept else _block_weight(weight, reach, block, ctx.dtype)
                grad_x[:, : block.reach] += g @ w
            target = grad_weight[block.start : block.stop, : block.reach]
            target.copy_(g.T @ x_low[:, : block.reach])
            columns = torch.arange(block.full, block.reach, device=reach.device)
            target[:, block.full :].mul_(columns < reach[block.start : block.stop, None])
        return grad_x, grad_weight, grad.sum(0), None, None
