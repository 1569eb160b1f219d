"""Conditional frames: where each conditional lies and how wide it is, told by its context.

Preconditioning by the data's overall mean and spread shows the score network a spike where
conditionals are far narrower. Here the context network gives two more numbers a dimension, which
move and stretch a *start*: the data's mean and sd, or predictions by the values before (see
`prediction`), of the location from these values and of the log-scale from the sizes of their own
errors. Then each conditional is preconditioned by location and scale of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.any_order import visits
from arcsm_cli.models.context import AnyOrderContexts, ContextNetwork, IncrementalContexts
from arcsm_cli.models.prediction import linear_prediction, log_size, scale_prediction

_STRETCH = 5.0  # log of the most that sizes, and once more contexts, widen or narrow a scale
# A frame moves the score network's whole input, so it should move more slowly than contexts do.
_PACE = 0.1


class _Start(NamedTuple):
    """Location and log-scale that frames start from, (B, D) each, or those of one dimension."""

    location: Tensor
    log_scale: Tensor

    def standardised(self, x: Tensor) -> Tensor:
        return (x - self.location) * (-self.log_scale).exp()

    def moved(self, contexts: Tensor) -> Tensor:
        """Return contexts (..., C + 2) whose last two numbers became location and log-scale."""
        a, b = _PACE * contexts[..., -2], _PACE * contexts[..., -1]
        location = self.location + self.log_scale.exp() * a
        log_scale = self.log_scale + _bounded(b)
        return torch.cat([contexts[..., :-2], location[..., None], log_scale[..., None]], -1)


class FramedContexts(AnyOrderContexts):
    """A context network that reads standardised values and ends each context with a frame.

    With the start's location m and scale l, the inner network reads (x - m) / l, and of what it
    gives last a tenth, (a, b), makes the frame's location m + l a and log-scale
    log l + 5 tanh(b / 5). Frames are finite for all weights that are, whatever the data.

    Arguments:
        inner: of width C + 2.
        mean, sd: of the data, (D,) each: the start until `fit`.
        linear: the start is a linear function of x_<d, of the log-sizes of their errors and of what
            is given, which `fit` finds.
        features: F, how many numbers are given of an example.

    Example:
        >>> from arcsm_cli.models.made import MADE
        >>> inner = MADE(dimensions=4, width=5, hidden=(8,))
        >>> framed = FramedContexts(inner, torch.zeros(4), torch.ones(4), linear=True)
        >>> framed(torch.zeros(2, 4)).shape
        torch.Size([2, 4, 5])
    """

    def __init__(
        self,
        inner: ContextNetwork,
        mean: Tensor,
        sd: Tensor,
        *,
        linear: bool,
        features: int = 0,
    ) -> None:
        super().__init__(inner.dimensions, inner.width)
        self.inner = inner
        self.linear = linear
        self.location = nn.Parameter(mean.clone(), requires_grad=False)
        self.log_scale = nn.Parameter(sd.log(), requires_grad=False)
        if linear:
            # Row d is of dimension d; what lies on the diagonal or above is never read. Values can
            # be so correlated that training would spoil what it finds; sizes are not.
            zero = torch.zeros(inner.dimensions, inner.dimensions)
            self.by_values = nn.Parameter(zero, requires_grad=False)
            self.by_sizes = nn.Parameter(zero.clone())
            self.widening = nn.Parameter(zero[0].clone(), requires_grad=False)
        self.is_told = linear and features > 0
        if self.is_told:  # the mean of what is given, then a row for each dimension
            told = torch.zeros(1 + inner.dimensions, features)
            self.by_given = nn.Parameter(told, requires_grad=False)

    @staticmethod
    def start_count(dimensions: int, *, linear: bool, features: int = 0) -> int:
        """Return how many numbers the start is made of."""
        if not linear:
            return 2 * dimensions
        return dimensions * (2 * dimensions + 3) + features * (1 + dimensions)

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D, C + 2)."""
        batch = Batch.of(batch)
        start = self._start(batch)
        contexts = self.inner(batch.holding(start.standardised(batch.x)))
        return start.moved(contexts.to(batch.x.dtype))

    def moved_by(self, given: Tensor) -> Tensor:
        """Return what is given of B examples, (B, F), as a change of their location, (B, D)."""
        told = given.to(self.by_given)
        return functional.linear(told - self.by_given[0], self.by_given[1:])

    def _start(self, batch: Batch) -> _Start:
        if not self.linear:
            return _Start(self.location, self.log_scale)
        x = batch.x
        # Small differences of large numbers: never in low precision.
        with torch.autocast(x.device.type, enabled=False):
            location = self.location + functional.linear(x - self.location, self.by_values.tril(-1))
            if self.is_told:
                location = location + self.moved_by(batch.given)
            sizes = log_size((x - location) * (-self.log_scale).exp())
            widening = functional.linear(sizes, self.by_sizes.tril(-1), self.widening)
        return _Start(location, self.log_scale + _bounded(widening))

    @torch.no_grad()
    def fit(self, batch: Batch, noise: float) -> None:
        """Find the start from examples (N, D) to which contexts add noise of this deviation."""
        x = batch.x
        told = batch.given if self.is_told else batch.given[:, :0]
        found = linear_prediction(x, noise, diagonal=not self.linear, given=told)
        mean, weights, scale = found.mean, found.weights, found.scale
        self.location.copy_(mean)
        self.log_scale.copy_(scale.log())
        if self.linear:
            self.by_values.copy_(weights)
            if self.is_told:
                self.by_given.copy_(found.by_given)
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randn(x.shape, generator=generator).to(x)
            noisy = x + noise * drawn
            errors = noisy - mean - functional.linear(noisy - mean, weights)
            if self.is_told:
                errors = errors - self.moved_by(told)
            by_sizes, widening = scale_prediction(errors / scale)
            self.by_sizes.copy_(by_sizes)
            self.widening.copy_(widening)

    def initialise(self, batch: Batch) -> bool:
        """Fit the inner network's initial weights to examples (B, D)."""
        start = self._start(batch)
        return self.inner.initialise(batch.holding(start.standardised(batch.x)))

    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an incremental evaluation for B examples given (B, G)."""
        return _IncrementalFrames(self, self.inner.incremental(given), given, None)

    def visiting(self, given: Tensor, order: Tensor) -> IncrementalContexts:
        """See `AnyOrderContexts.visiting`; for frames that do not start linearly."""
        assert isinstance(self.inner, AnyOrderContexts)
        assert not self.linear
        inner = self.inner.visiting(given, order)
        return _IncrementalFrames(self, inner, given, order)


class _IncrementalFrames(IncrementalContexts):
    """Keeps the values, and the sizes of their errors, beside what the inner network keeps."""

    def __init__(
        self,
        framed: FramedContexts,
        inner: IncrementalContexts,
        given: Tensor,
        order: Tensor | None,
    ) -> None:
        self.framed, self.inner, self.d = framed, inner, 0
        self.dims = visits(order, framed.dimensions)
        self.centred = framed.location.new_zeros(framed.dimensions, len(given))
        self.moved = framed.moved_by(given).T.contiguous() if framed.is_told else None
        self.sizes = torch.zeros_like(self.centred)

    def _start(self) -> _Start:
        """Return the start of the next dimension, (B,) or (1,) each."""
        framed, d = self.framed, self.d
        at = self.dims[d]
        own = at if isinstance(at, Tensor) else slice(at, at + 1)
        location, log_scale = framed.location[own], framed.log_scale[own]
        if not framed.linear:
            return _Start(location, log_scale)
        location = location + self.centred[:d].T @ framed.by_values[d, :d]
        if self.moved is not None:
            location = location + self.moved[d]
        widening = framed.widening[d] + self.sizes[:d].T @ framed.by_sizes[d, :d]
        return _Start(location, log_scale + _bounded(widening))

    def contexts(self) -> Tensor:
        return self._start().moved(self.inner.contexts())

    def select(self, rows: Tensor) -> None:
        for known in (self.centred[: self.d], self.sizes[: self.d]):
            known.copy_(known[:, rows])
        if self.moved is not None:
            self.moved.copy_(self.moved[:, rows])
        if isinstance(self.dims, Tensor):
            self.dims = self.dims[:, rows]
        self.inner.select(rows)

    def append(self, x: Tensor) -> None:
        framed, d, start = self.framed, self.d, self._start()
        self.inner.append(start.standardised(x))
        if framed.linear:
            self.centred[d] = x - framed.location[d]
            self.sizes[d] = log_size((x - start.location) * (-framed.log_scale[d]).exp())
        self.d += 1


def _bounded(x: Tensor) -> Tensor:
    return _STRETCH * torch.tanh(x / _STRETCH)
