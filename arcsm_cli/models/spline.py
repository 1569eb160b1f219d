"""Monotone rational-quadratic splines with linear tails (Gregory & Delbourgo 1982; Durkan 2019).

Between two knots, with mean slope s and slopes d0, d1 at the ends, the spline at the share t of the
way is

    y = y0 + h (s t^2 + d0 t (1 - t)) / (s + (d0 + d1 - 2 s) t (1 - t)),

which rises wherever s, d0 and d1 are positive. Beyond the outermost knots it goes on straight.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Spline(NamedTuple):
    """N increasing maps of the real line onto itself.

    Attributes:
        knots: (N, 3, K + 1), of each knot x, y and dy/dx; x and y ascending, slopes positive.

    Example:
        >>> x = torch.tensor([[-1.0, 0.0, 1.0]])
        >>> spline = Spline(torch.stack([x, 2 * x, torch.full_like(x, 2.0)], 1))
        >>> y = spline.values(torch.tensor([[0.25, 5.0]]))
        >>> y.tolist(), spline.inverse(y)[0].tolist()
        ([[0.5, 10.0]], [[0.25, 5.0]])
    """

    knots: Tensor

    def values(self, x: Tensor) -> Tensor:
        """Map x (N, M) to y (N, M)."""
        return self._stretch(0, x).value(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y (N, M) back to (x, log dy/dx at x), (N, M) each."""
        return self._stretch(1, y).inverse(y)

    def _stretch(self, axis: int, v: Tensor) -> _Stretch:
        """Return the stretches that values v (N, M) of x (axis 0) or y (axis 1) fall into."""
        inner = self.knots.detach()[:, axis, 1:-1].contiguous()
        i = torch.searchsorted(inner, v.detach().contiguous(), right=True)
        places = torch.cat([i, i + 1], 1)[:, None].expand(-1, 3, -1)
        found = self.knots.gather(2, places).view(len(v), 3, 2, -1)
        (x, x1), (y, y1), (first, last) = (t.unbind(1) for t in found.unbind(1))
        return _Stretch(x, x1 - x, y, y1 - y, first, last)


class _Stretch(NamedTuple):
    """Between two knots each; the outermost go on straight."""

    x: Tensor
    width: Tensor
    y: Tensor
    height: Tensor
    first: Tensor
    last: Tensor

    def value(self, x: Tensor) -> Tensor:
        share = (x - self.x) / self.width
        t = share.clamp(0, 1)
        s, mixed = self.height / self.width, t * (1 - t)
        above = self.height * (s * t.square() + self.first * mixed)
        inside = self.y + above / (s + (self.first + self.last - 2 * s) * mixed)
        return inside + self._straight(share - t, self.first, self.last) * self.width

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        share = (y - self.y) / self.height
        u = share.clamp(0, 1)
        s = self.height / self.width
        bend = self.first + self.last - 2 * s
        # The root of (s - d0 + bend u) t^2 + (d0 - bend u) t - s u = 0, without cancellation.
        b = self.first - bend * u
        root = (b.square() + 4 * (s - b) * s * u).clamp(min=0).sqrt()
        t = (2 * s * u / (b + root)).clamp(0, 1)
        beyond = self._straight(share - u, 1 / self.first, 1 / self.last) * self.height
        mixed = t * (1 - t)
        rise = self.last * t.square() + 2 * s * mixed + self.first * (1 - t).square()
        log_slope = 2 * (s / (s + bend * mixed)).log() + rise.log()
        return self.x + self.width * t + beyond, log_slope

    @staticmethod
    def _straight(excess: Tensor, first: Tensor, last: Tensor) -> Tensor:
        return first * excess.clamp(max=0) + last * excess.clamp(min=0)


def normal_log_density(z: Tensor) -> Tensor:
    """Return the log-density of a standard normal."""
    return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
