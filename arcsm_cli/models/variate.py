"""How much of a conditional's noise remains: what the best control variate of csm is read off.

Under noise sigma the posterior variance of a clean scalar is a share r = Var[x | x~] / sigma^2 =
1 + sigma^2 s'(x~) of the noise's (Tweedie's formula of second order). Where r is near 0 the noise
has taken over, near 1 the data's own width has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_BINS, _WIDTH = 32, 0.4  # of log(sigma / scale), around 0; what lies beyond counts as the end
_MEMORY = 100  # scalars of a bin that its running mean remembers


class PosteriorShares(nn.Module):
    """Running means of r by dimension and by noise level, in units of the conditional's scale.

    What a step adds is taken in when the step is over, so neither the order nor the number of the
    parts that a batch is computed in matters.

    Attributes:
        share: (bins, D), starts with what Gaussians of the conditionals' scales have.

    Example:
        >>> shares = PosteriorShares(dimensions=2)
        >>> sigma, scale = torch.tensor([[0.01, 100.0]]), torch.ones(2)
        >>> shares.coefficient(sigma, scale).round(decimals=2)
        tensor([[0., 1.]])
    """

    share: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        ratio = _WIDTH * (torch.arange(_BINS) - (_BINS - 1) / 2)
        start = torch.sigmoid(-2 * ratio)[:, None].repeat(1, dimensions)
        for name, value in (("share", start), ("sums", 0 * start), ("counts", 0 * start)):
            self.register_buffer(name, value, persistent=False)

    def coefficient(self, sigma: Tensor, scale: Tensor) -> Tensor:
        """Return the best lambda = 2 (1 - r) / (2 - r) for each scalar.

        It minimises the variance of the gradient in the precision of a Gaussian conditional.

        Arguments:
            sigma: noise levels (..., D), positive.
            scale: of the conditionals, broadcastable against sigma.
        """
        r = self.share.to(sigma.dtype).gather(0, _bin(sigma, scale).flatten(0, -2))
        return (2 * (1 - r) / (2 - r)).view(sigma.shape)

    @torch.no_grad()
    def note(self, sigma: Tensor, scale: Tensor, slope: Tensor) -> None:
        """Take note of the derivatives ds/dx (..., D) that a part of a batch had."""
        index = _bin(sigma, scale).flatten(0, -2)
        r = (1 + sigma.square() * slope).clamp(0, 1).flatten(0, -2).to(self.sums.dtype)
        self.sums.scatter_add_(0, index, r)
        self.counts.scatter_add_(0, index, torch.ones_like(r))

    @torch.no_grad()
    def take_in(self, total: Callable[[Tensor], Tensor]) -> None:
        """Move the means by what was noted since the last call.

        Arguments:
            total: sums a tensor over all processes that train together.
        """
        sums, counts = total(torch.stack([self.sums, self.counts]))
        weight = 1 - (1 - 1 / _MEMORY) ** counts
        self.share.lerp_(sums / counts.clamp(min=1), weight)
        self.sums.zero_()
        self.counts.zero_()


def _bin(sigma: Tensor, scale: Tensor) -> Tensor:
    place = (sigma / scale).log() / _WIDTH + _BINS / 2
    return place.long().clamp(0, _BINS - 1)
