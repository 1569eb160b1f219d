"""PixelCNN++ (Salimans et al. 2017) written plainly in PyTorch: a reference to compare with.

Every convolution is causal because its input is padded on one side only. Two streams run through
the network. At each pixel, ``u`` has seen the rows above, and ``ul`` has seen those and the pixels
to the left in the same row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x, side by side: twice as many channels."""
    return F.elu(torch.cat([x, -x], dim=1))


def down_shift(x: Tensor) -> Tensor:
    """Move the image one row down; the first row becomes zero."""
    return F.pad(x[:, :, :-1], (0, 0, 1, 0))


def right_shift(x: Tensor) -> Tensor:
    """Move the image one column to the right; the first column becomes zero."""
    return F.pad(x[:, :, :, :-1], (1, 0, 0, 0))


class DownShiftedConv(nn.Module):
    """A convolution that sees its own row and those above, and columns on both sides."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int] = (2, 3), stride: int = 1
    ) -> None:
        super().__init__()
        rows, columns = kernel
        side = (columns - 1) // 2
        self.padding = (side, side, rows - 1, 0)
        self.conv = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, self.padding))
        return out


class DownRightShiftedConv(nn.Module):
    """A convolution that sees its own row and those above, its own column and those to the left."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int] = (2, 2), stride: int = 1
    ) -> None:
        super().__init__()
        rows, columns = kernel
        self.padding = (columns - 1, 0, rows - 1, 0)
        self.conv = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, self.padding))
        return out


class DownShiftedDeconv(nn.Module):
    """Doubles the resolution of the ``u`` stream.

    A 2x3 kernel with stride 2 gives 2H x (2W + 1); with the blank last row and column that the
    original also computes, it is 2H + 1 by 2W + 2, cropped by that row and a column on each side.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # A transposed convolution has its output channels in dimension 1 of the weight.
        self.conv = weight_norm(nn.ConvTranspose2d(inputs, outputs, (2, 3), stride=2), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out[:, :, :, 1:]


class DownRightShiftedDeconv(nn.Module):
    """Doubles the resolution of the ``ul`` stream: 2x2 with stride 2, exactly 2H x 2W."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = weight_norm(nn.ConvTranspose2d(inputs, outputs, (2, 2), stride=2), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class GatedResnet(nn.Module):
    """A residual block with a gate at its end and, where ``side`` > 0, a second input."""

    def __init__(
        self,
        conv: type[DownShiftedConv] | type[DownRightShiftedConv],
        filters: int,
        side: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv_in = conv(2 * filters, filters)
        self.nin = weight_norm(nn.Conv2d(2 * side, filters, 1)) if side else None
        self.conv_out = conv(2 * filters, 2 * filters)

    def forward(self, x: Tensor, a: Tensor | None = None) -> Tensor:
        c1 = self.conv_in(concat_elu(x))
        if self.nin is not None and a is not None:
            c1 = c1 + self.nin(concat_elu(a))
        c1 = F.dropout(concat_elu(c1), self.dropout, self.training)
        value, gate = self.conv_out(c1).chunk(2, dim=1)
        out: Tensor = x + value * torch.sigmoid(gate)
        return out


class DownStage(nn.Module):
    """The blocks of one resolution in the down pass; all they compute is kept for the skips."""

    def __init__(self, filters: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.u = nn.ModuleList(
            GatedResnet(DownShiftedConv, filters, 0, dropout) for _ in range(blocks)
        )
        self.ul = nn.ModuleList(
            GatedResnet(DownRightShiftedConv, filters, filters, dropout) for _ in range(blocks)
        )

    def forward(self, us: list[Tensor], uls: list[Tensor]) -> None:
        for u_block, ul_block in zip(self.u, self.ul, strict=True):
            us.append(u_block(us[-1]))
            uls.append(ul_block(uls[-1], us[-1]))


class UpStage(nn.Module):
    """The blocks of one resolution in the up pass, each taking the latest skip of its stream."""

    def __init__(self, filters: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.u = nn.ModuleList(
            GatedResnet(DownShiftedConv, filters, filters, dropout) for _ in range(blocks)
        )
        self.ul = nn.ModuleList(
            GatedResnet(DownRightShiftedConv, filters, 2 * filters, dropout) for _ in range(blocks)
        )

    def forward(
        self, u: Tensor, ul: Tensor, us: list[Tensor], uls: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        for u_block, ul_block in zip(self.u, self.ul, strict=True):
            u = u_block(u, us.pop())
            ul = ul_block(ul, torch.cat([u, uls.pop()], dim=1))
        return u, ul


class PlainPixelCNN(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] to parameters (B, outputs, H, W) of each pixel.

    The parameters of a pixel depend on the pixels before it in raster order only. H and W are
    multiples of 4. The down pass has ``blocks`` blocks of each stream per resolution; the up pass
    has as many at the lowest resolution and one more at the others, each with a skip connection.
    """

    def __init__(
        self, channels: int, filters: int, blocks: int, outputs: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        f = filters
        self.u_first = DownShiftedConv(channels + 1, f, (2, 3))
        self.ul_first_above = DownShiftedConv(channels + 1, f, (1, 3))
        self.ul_first_left = DownRightShiftedConv(channels + 1, f, (2, 1))
        self.down = nn.ModuleList(DownStage(f, blocks, dropout) for _ in range(3))
        self.u_smaller = nn.ModuleList(DownShiftedConv(f, f, stride=2) for _ in range(2))
        self.ul_smaller = nn.ModuleList(DownRightShiftedConv(f, f, stride=2) for _ in range(2))
        self.up = nn.ModuleList(
            UpStage(f, count, dropout) for count in (blocks, blocks + 1, blocks + 1)
        )
        self.u_larger = nn.ModuleList(DownShiftedDeconv(f, f) for _ in range(2))
        self.ul_larger = nn.ModuleList(DownRightShiftedDeconv(f, f) for _ in range(2))
        self.last = weight_norm(nn.Conv2d(f, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        # The channel of ones tells pixels of the image from the padding around it.
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        us = [down_shift(self.u_first(x))]
        uls = [down_shift(self.ul_first_above(x)) + right_shift(self.ul_first_left(x))]
        for level in range(3):
            self.down[level](us, uls)
            if level < 2:
                us.append(self.u_smaller[level](us[-1]))
                uls.append(self.ul_smaller[level](uls[-1]))

        u, ul = us.pop(), uls.pop()
        for level in range(3):
            u, ul = self.up[level](u, ul, us, uls)
            if level < 2:
                u, ul = self.u_larger[level](u), self.ul_larger[level](ul)
        out: Tensor = self.last(F.elu(ul))
        return out


def plain_discretized_mix_logistic_loss(params: Tensor, x: Tensor) -> Tensor:
    """Negative log-likelihood in nats, summed over the batch, of 8-bit images scaled to [-1, 1].

    The channels of ``params`` are, with K mixture components, each group in the order of the
    components:

    - 1 channel, 3K: K logits, K means, K log scales.
    - 3 channels, 10K: K logits, then for red, green and blue in turn a block of K means, K log
      scales and K coefficients. After tanh, the coefficients in red's block multiply red in the
      mean of green, those in green's block red in the mean of blue, and those in blue's block
      green in the mean of blue.
    """
    batch, channels, height, width = x.shape
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    groups = 3 if channels == 3 else 2
    k = params.shape[1] // (1 + groups * channels)
    log_weights = F.log_softmax(params[:, :k], dim=1)
    blocks = params[:, k:].view(batch, channels, groups, k, height, width)
    means = blocks[:, :, 0]
    log_scales = blocks[:, :, 1].clamp(min=-7.0)
    x = x.unsqueeze(2)  # (B, C, 1, H, W) against (B, C, K, H, W)
    if channels == 3:
        coefficients = torch.tanh(blocks[:, :, 2])
        red, green = x[:, 0], x[:, 1]
        mean_green = means[:, 1] + coefficients[:, 0] * red
        mean_blue = means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green
        means = torch.stack([means[:, 0], mean_green, mean_blue], dim=1)

    centred = x - means
    inverse_scales = torch.exp(-log_scales)
    upper = inverse_scales * (centred + 1 / 255)
    lower = inverse_scales * (centred - 1 / 255)
    middle = inverse_scales * centred
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    log_first = upper - F.softplus(upper)  # value 0 takes the whole lower tail
    log_last = -F.softplus(lower)  # value 255 takes the whole upper tail
    # Where the bin's mass underflows: the density in its middle times its width, 2 / 255.
    log_density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    log_inner = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), log_density)
    log_probs = torch.where(x < -0.999, log_first, torch.where(x > 0.999, log_last, log_inner))
    return -torch.logsumexp(log_probs.sum(dim=1) + log_weights, dim=1).sum()
