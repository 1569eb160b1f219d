"""Conditional quantile functions: of each context a monotone map from a standard normal to x_d.

In one dimension the probability flow from the first noise level to the last never crosses itself,
so it maps the quantiles of the first level to those of the last: it is the conditional's quantile
function. A spline with knots from the context can be taught that map. It then draws a scalar in one
evaluation, and its own density follows by the change of variables, exactly.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.models.spline import Spline, normal_log_density

_REACH = 3.5  # the outermost knots, in standard deviations of the normal
_NARROWEST = 1e-3  # a stretch between knots, as a share of all
_STEEPEST = 9.0  # the log of how steep or flat a stretch can be


class QuantileFunction(NamedTuple):
    """Quantile functions of N conditionals, x = location + scale spline(z), z standard normal.

    Attributes:
        spline: N of them.
        location, scale: (N, 1), or what broadcasts to it.
    """

    spline: Spline
    location: Tensor
    scale: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Return the values (N, M) below which Phi(z) of the mass lies, z (N, M)."""
        return self.location + self.scale * self.spline.values(z)

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p at x (N, M), in nats."""
        z, log_slope = self.spline.inverse((x - self.location) / self.scale)
        return normal_log_density(z) - log_slope - self.scale.log()


class QuantileHead(nn.Module):
    """Maps contexts to splines; without training to the identity.

    Arguments:
        width: C, of a context.
        hidden: sizes of the hidden layers.
        bins: K, stretches between knots.

    Example:
        >>> head = QuantileHead(width=3, hidden=(8,), bins=4)
        >>> z = torch.tensor([[-5.0, 0.5], [0.0, 7.0]])
        >>> bool((head(torch.zeros(2, 3)).values(z) - z).abs().max() < 1e-5)
        True
    """

    def __init__(self, width: int, hidden: tuple[int, ...], bins: int) -> None:
        super().__init__()
        self.bins = bins
        sizes = (width, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(sizes[-1], self.outputs(bins))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @staticmethod
    def outputs(bins: int) -> int:
        """Return how many numbers make a spline: widths, heights, slopes and a location."""
        return 3 * bins + 2

    def forward(self, c: Tensor) -> Spline:
        """Return the splines of contexts (N, C)."""
        for layer in self.hidden:
            c = functional.silu(layer(c))
        k, raw = self.bins, self.out(c)
        rates = raw[:, :-1].clamp(-_STEEPEST, _STEEPEST).exp()
        widths, heights, slopes = rates.split((k, k, k + 1), 1)
        free = 2 * _REACH * (1 - _NARROWEST * k)
        widths = widths * (free / widths.sum(1, keepdim=True)) + 2 * _REACH * _NARROWEST
        steps = torch.stack([widths, heights * (2 * _REACH / k)], 1)
        start = functional.pad(raw[:, -1:], (1, 0)) - _REACH
        places = functional.pad(steps.cumsum(2), (1, 0)) + start[:, :, None]
        return Spline(torch.cat([places, slopes[:, None]], 1))
