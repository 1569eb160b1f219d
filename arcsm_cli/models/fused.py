"""Value and x-derivative of the score network, forward and backward, in cache-sized blocks.

With N = batch x dimensions rows (100,352 for 128 MNIST digits) the activations of a 64-unit layer
fill 26 MB: plain autograd streams dozens of such tensors through main memory and keeps most of
them. Here a block of rows goes through all layers while it is in cache, and of each layer only h
and dh are kept. Beyond `_KEPT` bytes nothing is: the backward pass then computes a block again.

Notation, per layer: a = pre-activation, h = tanh(a), da and dh their derivatives in x. With
g(.) the gradient of the loss:
    dh  = (1 - h^2) da
    g(da) = (1 - h^2) g(dh)
    g(a)  = (1 - h^2) (g(h) - 2 h da g(dh))
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from arcsm_cli.models.once import differentiable_once

# (1 - h^2) g in one pass; the gradient may be overwritten.
_tanh_backward = torch.ops.aten.tanh_backward.grad_input

_ROWS = 4096  # rows a block and thread: 1 MB an activation of 64 float32 units
_KEPT = 1 << 28  # bytes of activations that may be kept for the backward pass


class ScoreParameters(NamedTuple):
    """Weights of the network as plain tensors, first layer split by what it reads."""

    context: Tensor  # (H, P): context vector and noise-level features
    x: Tensor  # (H,)
    bias: Tensor  # (H,)
    hidden: tuple[tuple[Tensor, Tensor], ...]  # (H', H) and (H',) each
    out: Tensor  # (H,)
    out_bias: Tensor  # ()


def fused_value_and_tangent(
    x: Tensor, c: Tensor, features: Tensor | None, p: ScoreParameters
) -> tuple[Tensor, Tensor]:
    """Return (F, dF/dx), each (N,), for x (N,), contexts (N, C) and level features (N, T) or None.

    Differentiable once, in x, c and every weight.
    """
    value, slope = _apply(True, x, c, features, p)
    return value, slope


def fused_value(x: Tensor, c: Tensor, features: Tensor | None, p: ScoreParameters) -> Tensor:
    """Return F alone, (N,), at half the cost; arguments as in `fused_value_and_tangent`."""
    value: Tensor = _apply(False, x, c, features, p)[0]
    return value


def keep_from_compilers() -> None:
    """Leave these passes out of what is compiled from now on.

    A compiler would unroll the blocks and lose what they are for. To tell it loads it, which takes
    seconds: this is for those who compile.
    """
    global _apply
    _apply = torch.compiler.disable(_apply)  # type: ignore[no-untyped-call]


def _apply(
    tangent: bool, x: Tensor, c: Tensor, features: Tensor | None, p: ScoreParameters
) -> tuple[Tensor, Tensor]:
    hidden = [t for pair in p.hidden for t in pair]
    result: tuple[Tensor, Tensor] = _Fused.apply(
        tangent, x, c, features, p.context, p.x, p.bias, p.out, p.out_bias, *hidden
    )
    return result


class _Activations(NamedTuple):
    """Of one block of n rows, per layer.

    Attributes:
        hs: (n, H), or (2n, H) with dh below h, so that the next layer is one product.
        das: (n, H); empty without tangent.
    """

    hs: list[Tensor]
    das: list[Tensor]


def _forward_block(
    x: Tensor,
    inputs: list[Tensor],
    first: tuple[list[Tensor], Tensor, Tensor],
    hidden: list[Tensor],
    tangent: bool,
) -> _Activations:
    weights, wx, bias = first
    n = len(x)
    result = _Activations([], [])
    a = torch.addmm(bias, inputs[0], weights[0].T)
    for part, weight in zip(inputs[1:], weights[1:], strict=True):
        a.addmm_(part, weight.T)
    a.addcmul_(x[:, None], wx)
    da = wx.expand(n, -1)
    for i in range(0, len(hidden) + 2, 2):
        stacked = a.new_empty(2 * n if tangent else n, a.shape[1])
        h = torch.tanh(a, out=stacked[:n])
        result.hs.append(stacked)
        if tangent:
            _tanh_backward(da, h, grad_input=stacked[n:])
            result.das.append(da)
        if i < len(hidden):
            both = stacked @ hidden[i].T
            a, da = both[:n].add_(hidden[i + 1]), both[n:]
    return result


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tangent: bool,
        x: Tensor,
        c: Tensor,
        features: Tensor | None,
        context: Tensor,
        wx: Tensor,
        bias: Tensor,
        out: Tensor,
        out_bias: Tensor,
        *hidden: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.tangent = tangent
        ctx.save_for_backward(x, c, features, context, wx, bias, out, *hidden)
        inputs, weights = _split(c, features, context)
        value = torch.empty_like(x)
        slope = torch.empty_like(x) if tangent else x.new_empty(0)
        widths = [len(wx), *(len(b) for b in hidden[1::2])]
        copies = 3 if tangent else 1  # h, dh and da
        keep = copies * len(x) * sum(widths) * x.element_size() <= _KEPT
        ctx.blocks = []
        ctx.size = size = _ROWS * torch.get_num_threads()
        for i in range(0, len(x), size):
            rows = slice(i, i + size)
            n = len(x[rows])
            block = _forward_block(
                x[rows], [t[rows] for t in inputs], (weights, wx, bias), list(hidden), tangent
            )
            if keep:
                ctx.blocks.append(block)
            both = block.hs[-1] @ out
            value[rows] = both[:n]
            if tangent:
                slope[rows] = both[n:]
        return value.add_(out_bias), slope

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, g_value: Tensor, g_slope: Tensor) -> tuple[Tensor | None, ...]:
        x, c, features, context, wx, bias, out, *hidden = ctx.saved_tensors
        tangent = ctx.tangent
        inputs, weights = _split(c, features, context)
        g_x, g_c = torch.empty_like(x), torch.empty_like(c)
        g_context, g_wx, g_bias, g_out, *g_hidden = (
            torch.zeros_like(t) for t in (context, wx, bias, out, *hidden)
        )
        _, g_weights = _split(c, features, g_context)
        size = ctx.size
        for i in range(0, len(x), size):
            rows = slice(i, i + size)
            xb = x[rows]
            n = len(xb)
            parts = [t[rows] for t in inputs]
            if ctx.blocks:
                hs, das = ctx.blocks[i // size]
            else:
                hs, das = _forward_block(xb, parts, (weights, wx, bias), hidden, tangent)
            g_both = torch.cat([g_value[rows], g_slope[rows]]) if tangent else g_value[rows]
            g_out.addmv_(hs[-1].T, g_both)
            g = torch.outer(g_both, out)  # gradients of h and, below them, of dh
            for layer in range(len(hs) - 1, -1, -1):
                h, g_a = hs[layer][:n], g[:n]
                if tangent:
                    g_a.addcmul_(h * das[layer], g[n:], value=-2.0)
                    _tanh_backward(g[n:], h, grad_input=g[n:])  # now the gradient of da
                _tanh_backward(g_a, h, grad_input=g_a)  # now that of a
                if layer > 0:
                    w = 2 * (layer - 1)
                    g_hidden[w].addmm_(g.T, hs[layer - 1])
                    g_hidden[w + 1].add_(g_a.sum(0))
                    g = g @ hidden[w]
            g_bias.add_(g_a.sum(0))
            g_wx.addmv_(g_a.T, xb)
            if tangent:
                g_wx.add_(g[n:].sum(0))
            for target, part in zip(g_weights, parts, strict=True):
                target.addmm_(g_a.T, part)
            torch.mm(g_a, weights[0], out=g_c[rows])
            torch.mv(g_a, wx, out=g_x[rows])
        return (None, g_x, g_c, None, g_context, g_wx, g_bias, g_out, g_value.sum(), *g_hidden)


def _split(c: Tensor, features: Tensor | None, weight: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first layer's inputs, and views of its weight (H, P) that belong to each."""
    if features is None:
        return [c], [weight]
    width = c.shape[1]
    return [c, features], [weight[:, :width], weight[:, width:]]
