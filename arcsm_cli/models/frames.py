"""Conditional frames: where each conditional lies and how wide it is, told by its context.

Preconditioning by the data's overall mean and spread shows the score network a spike where
conditionals are far narrower. Here the context network gives two more numbers a dimension, which
move and stretch a *start*: the data's mean and sd, or a linear prediction of x_d from x_<d with the
spread of its errors. Then the conditional is preconditioned by location and scale of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.context import ContextNetwork, IncrementalContexts
from arcsm_cli.models.prediction import linear_prediction

_STRETCH = 5.0  # log of the most that a context widens or narrows the start's scale
# A frame moves the score network's whole input, so it should move more slowly than contexts do.
_PACE = 0.1


class FramedContexts(ContextNetwork):
    """A context network that reads standardised values and ends each context with a frame.

    With the start's location m and scale l, the inner network reads z = (x - m) / l, and of what it
    gives last a tenth, (a, b), becomes the frame's location m + l a and log-scale
    log l + 5 tanh(b / 5).
    Frames are finite for all weights that are, whatever the data.

    Arguments:
        inner: of width C + 2.
        mean, sd: of the data, (D,) each: the start until `fit`.
        linear: the start's location is a linear function of x_<d, which `fit` finds.

    Example:
        >>> from arcsm_cli.models.made import MADE
        >>> inner = MADE(dimensions=4, width=5, hidden=(8,))
        >>> framed = FramedContexts(inner, torch.zeros(4), torch.ones(4), linear=True)
        >>> framed(torch.zeros(2, 4)).shape
        torch.Size([2, 4, 5])
    """

    def __init__(self, inner: ContextNetwork, mean: Tensor, sd: Tensor, *, linear: bool) -> None:
        super().__init__(inner.dimensions, inner.width)
        self.inner = inner
        self.location = nn.Parameter(mean.clone(), requires_grad=False)
        self.log_scale = nn.Parameter(sd.log(), requires_grad=False)
        # Row d predicts x_d; what lies on the diagonal or above is never read.
        self.prediction: nn.Parameter | None = None
        if linear:
            square = torch.zeros(inner.dimensions, inner.dimensions)
            self.prediction = nn.Parameter(square, requires_grad=False)

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D, C + 2)."""
        batch = Batch.of(batch)
        contexts = self.inner(batch.holding(self._standardised(batch.x)))
        return _placed(contexts.to(batch.x.dtype), self._start(batch.x), self.log_scale)

    def _standardised(self, x: Tensor) -> Tensor:
        return (x - self._start(x)) * (-self.log_scale).exp()

    def _start(self, x: Tensor) -> Tensor:
        if self.prediction is None:
            return self.location
        # A small difference of large numbers: never in low precision.
        with torch.autocast(x.device.type, enabled=False):
            centred = x - self.location
            return self.location + functional.linear(centred, self.prediction.tril(-1))

    @torch.no_grad()
    def fit(self, x: Tensor, noise: float) -> None:
        """Find the start from examples (N, D) to which contexts add noise of this deviation."""
        mean, weight, scale = linear_prediction(x, noise, diagonal=self.prediction is None)
        self.location.copy_(mean)
        self.log_scale.copy_(scale.log())
        if self.prediction is not None:
            self.prediction.copy_(weight)

    def initialise(self, batch: Batch) -> bool:
        """Fit the inner network's initial weights to examples (B, D)."""
        return self.inner.initialise(batch.holding(self._standardised(batch.x)))

    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an incremental evaluation for B examples given (B, G)."""
        return _IncrementalFrames(self, given)


class _IncrementalFrames(IncrementalContexts):
    """Keeps the values beside what the inner network keeps of them."""

    def __init__(self, framed: FramedContexts, given: Tensor) -> None:
        self.framed, self.d = framed, 0
        self.inner = framed.inner.incremental(given)
        self.centred = framed.location.new_zeros(framed.dimensions, len(given))

    def _start(self) -> Tensor:
        """Return the start's location of the next dimension, (B,) or (1,)."""
        d, location = self.d, self.framed.location
        here = location[d : d + 1]
        if self.framed.prediction is None or d == 0:
            return here
        return torch.addmv(here, self.centred[:d].T, self.framed.prediction[d, :d])

    def contexts(self) -> Tensor:
        scale = self.framed.log_scale[self.d]
        return _placed(self.inner.contexts(), self._start(), scale)

    def select(self, rows: Tensor) -> None:
        self.centred[: self.d] = self.centred[: self.d, rows]
        self.inner.select(rows)

    def append(self, x: Tensor) -> None:
        framed, d = self.framed, self.d
        self.inner.append((x - self._start()) * (-framed.log_scale[d]).exp())
        self.centred[d] = x - framed.location[d]
        self.d += 1


def _placed(contexts: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Return contexts (..., C + 2) whose last two numbers became location and log-scale."""
    a, b = _PACE * contexts[..., -2], _PACE * contexts[..., -1]
    moved = location + log_scale.exp() * a
    stretched = log_scale + _STRETCH * torch.tanh(b / _STRETCH)
    return torch.cat([contexts[..., :-2], moved[..., None], stretched[..., None]], -1)
