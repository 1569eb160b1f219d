"""The layers of PixelCNN++ (Salimans et al. 2017), written for few passes over memory.

Each stream tensor is activated once (concatenated ELU, written straight into a zero-padded
buffer), and that one buffer serves all its readers: convolutions, 1 x 1 products and skips.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.models.once import by_hand, differentiable_once
from arcsm_cli.models.shifts import shifted

VERTICAL, HORIZONTAL = (2, 3), (2, 2)  # kernels: the row above and this one

# Zeros around a tensor, (left, right, top), that keep a kernel's output in place and causal.
Padding = tuple[int, int, int]
PADDING: dict[tuple[int, int], Padding] = {VERTICAL: (1, 1, 1), HORIZONTAL: (1, 0, 1)}


class WeightNormalized(nn.Module):
    """A convolution with weights g v / |v|, one norm an output channel (Salimans & Kingma 2016).

    Arguments:
        inputs, outputs: channels.
        kernel: (height, width).
        stride: of the output (or, transposed, of the input) in both directions.
        transposed: the adjoint of a convolution: to a resolution ``stride`` times as high.
        scale: standard deviation of the output right after `initialise`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: int = 1,
        transposed: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride, self.transposed, self.scale = stride, transposed, scale
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.direction = nn.Parameter(torch.empty(*shape, *kernel))
        self.gain = nn.Parameter(torch.full((outputs,), scale))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.initialising = False
        nn.init.normal_(self.direction, std=0.05)

    def weight(self) -> Tensor:
        """Return g v / |v|, shaped as PyTorch's convolutions take it."""
        axis = 1 if self.transposed else 0
        others = [i for i in range(4) if i != axis]
        norm = torch.linalg.vector_norm(self.direction, dim=others, keepdim=True)
        gain = self.gain.view([-1 if i == axis else 1 for i in range(4)])
        weight: Tensor = self.direction * (gain / norm)
        return weight

    def forward(self, x: Tensor, crop: Padding | None = None) -> Tensor:
        """Map x (B, inputs, H, W), padded as needed, to the output.

        Arguments:
            crop: padding of x, to be cut off the output of a 1 x 1 kernel.
        """
        y = self._product(x, crop)
        if self.initialising:
            self._fit(y)
            y = self._product(x, crop)
        return y

    def _product(self, x: Tensor, crop: Padding | None) -> Tensor:
        weight = self.weight()
        if self.transposed:
            # A kernel three wide reaches one column beyond each side.
            side = self.direction.shape[3] // 2 if self.direction.shape[3] == 3 else 0
            return functional.conv_transpose2d(
                x, weight, self.bias, self.stride, padding=(0, side), output_padding=(0, side)
            )
        y = functional.conv2d(x, weight, self.bias, self.stride)
        if crop is not None:
            left, right, top = crop
            y = y[:, :, top:, left : y.shape[3] - right]
        return y

    @torch.no_grad()
    def _fit(self, y: Tensor) -> None:
        """Choose gain and bias so that each channel of y has mean 0 and deviation ``scale``."""
        variance, mean = torch.var_mean(y.float(), dim=(0, 2, 3), correction=0)
        # A channel that does not vary on this batch keeps its gain.
        factor = torch.where(variance > 1e-10, self.scale * variance.rsqrt(), 1.0)
        self.bias.copy_((self.bias - mean) * factor)
        self.gain.mul_(factor)


class Activated(NamedTuple):
    """A stream's tensor and its activation.

    Attributes:
        raw: (B, F, H, W).
        act: (B, 2F, H + top, W + left + right), zero outside.
        padding: left, right, top.
    """

    raw: Tensor
    act: Tensor
    padding: Padding


def concat_elu(x: Tensor, padding: Padding = (0, 0, 0)) -> Tensor:
    """Return ELU([x, -x]) of x (B, F, H, W) amid zeros, (B, 2F, H + top, W + left + right)."""
    if not by_hand():
        return functional.pad(functional.elu(torch.cat([x, -x], 1)), (*padding, 0))
    activated: Tensor = _ConcatELU.apply(x, padding)
    return activated


class _ConcatELU(torch.autograd.Function):
    """One pass over memory in each direction; only the result is kept, which its readers keep."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: Padding) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        (batch, channels, height, width), (left, right, top) = x.shape, padding
        out = torch.empty(
            (batch, 2 * channels, height + top, width + left + right),
            dtype=dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        out[:, :, :top] = 0
        out[:, :, :, :left] = 0
        out[:, :, :, left + width :] = 0
        # ELU(x) = max(x, exp(-|x|) - 1): one exponential serves x and -x. Not expm1, which on some
        # processors takes ten times as long; near 0 the difference is one rounding of 1.
        low = x.to(dtype)
        below = low.abs().neg_().exp_().sub_(1)
        inner = out[:, :, top:, left : left + width]
        torch.maximum(low, below, out=inner[:, :channels])
        torch.maximum(-low, below, out=inner[:, channels:])
        ctx.save_for_backward(out)
        ctx.padding, ctx.dtype = padding, x.dtype
        return out

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        left, right, top = ctx.padding
        inner = slice(left, out.shape[3] - right)
        channels = out.shape[1] // 2
        out, grad = out[:, :, top:, inner], grad[:, :, top:, inner]
        # From the result alone: the derivative is 1 where it is positive, else result + 1.
        both = torch.ops.aten.elu_backward(grad, 1.0, 1.0, 1.0, True, out)
        return (both[:, :channels] - both[:, channels:]).to(ctx.dtype), None


def gated_sum(x: Tensor, ab: Tensor) -> Tensor:
    """Return x + a sigmoid(b) for ab (B, 2F, H, W), a first, in the precision of x."""
    if not by_hand():
        return x + functional.glu(ab, 1)
    total: Tensor = _GatedSum.apply(x, ab)
    return total


class _GatedSum(torch.autograd.Function):
    """Keeps ab and the sigmoid, and writes the gradient of ab straight into one tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ab: Tensor) -> Tensor:
        a, b = ab.chunk(2, 1)
        gate = b.sigmoid()
        ctx.save_for_backward(ab, gate)
        return torch.addcmul(x, a, gate) if x.dtype == ab.dtype else x + a * gate

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        ab, gate = ctx.saved_tensors
        a, _ = ab.chunk(2, 1)
        out = torch.empty_like(ab)
        of_a, of_b = out.chunk(2, 1)
        low = grad.to(ab.dtype)
        torch.mul(low, gate, out=of_a)
        torch.ops.aten.sigmoid_backward.grad_input(low * a, gate, grad_input=of_b)
        return grad, out


class GatedBlock(nn.Module):
    """x + a sigmoid(b), where [a, b] = conv(dropout(act(conv(act(x)) + products of the skips))).

    Arguments:
        filters: F.
        kernel: `VERTICAL` or `HORIZONTAL`.
        skips: how many tensors of F channels are read besides x.
        dropout: probability of dropping an activation in training.
    """

    def __init__(
        self, filters: int, kernel: tuple[int, int], *, skips: int, dropout: float
    ) -> None:
        super().__init__()
        self.padding, self.dropout = PADDING[kernel], dropout
        self.first = WeightNormalized(2 * filters, filters, kernel)
        self.skip = WeightNormalized(2 * filters * skips, filters) if skips else None
        self.second = WeightNormalized(2 * filters, 2 * filters, kernel, scale=0.1)

    def forward(self, x: Activated, *skips: Activated, shift: Tensor | None = None) -> Activated:
        """Return the next tensor of the stream of x; ``shift`` (B, F) moves its hidden units."""
        y = self.first(x.act)
        if self.skip is not None:
            y = y + _product_of_skips(self.skip, skips)
        h = concat_elu(shifted(y, shift), self.padding)
        h = functional.dropout(h, self.dropout, self.training)
        return activate(gated_sum(x.raw, self.second(h)), self.padding)


BlockShifts = dict[GatedBlock, Tensor | None]
"""By block what moves its hidden units, (B, F), or None for nothing."""


def _product_of_skips(layer: WeightNormalized, skips: tuple[Activated, ...]) -> Tensor:
    """Return the 1 x 1 product over the activations of all skips together, (B, F, H, W)."""
    if len(skips) == 1:
        product: Tensor = layer(skips[0].act, skips[0].padding)
        return product
    if layer.initialising:
        acts = [s.act[:, :, s.padding[2] :, s.padding[0] :] for s in skips]
        acts = [a[..., : skips[0].raw.shape[3]] for a in acts]
        product = layer(torch.cat(acts, 1))
        return product
    # Each activation where it lies: joining them would cost another pass over memory.
    parts = layer.weight().chunk(len(skips), 1)
    total = None
    for skip, weight in zip(skips, parts, strict=True):
        left, right, top = skip.padding
        bias = layer.bias if total is None else None
        y = functional.conv2d(skip.act, weight, bias)
        y = y[:, :, top:, left : y.shape[3] - right]
        total = y if total is None else total + y
    assert total is not None
    return total


def activate(raw: Tensor, padding: Padding) -> Activated:
    """Return a stream's tensor with its activation."""
    return Activated(raw, concat_elu(raw, padding), padding)


def blocks_of(part: nn.ModuleList, level: int) -> list[GatedBlock]:
    """Return the gated blocks of one resolution."""
    return list(cast("nn.ModuleList", part[level]))  # type: ignore[arg-type]


def layer_of(part: nn.ModuleList, level: int) -> WeightNormalized:
    """Return the layer that leads from one resolution to the next."""
    return cast("WeightNormalized", part[level])
