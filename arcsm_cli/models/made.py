"""MADE as a context network (Germain et al. 2015): x_1..x_D to contexts c_1..c_D."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import ContextNetwork, IncrementalContexts
from arcsm_cli.models.masked import MaskedLinear
from arcsm_cli.models.shifts import shifted
from arcsm_cli.options import stored_options


class MADE(ContextNetwork):
    """A masked multilayer perceptron: context d is a function of x_1..x_{d-1} only.

    Hidden unit degrees are spread evenly over 1..D-1 and sorted, so that every mask is a staircase
    (see `masked`). The output layer of dimension d is a block of ``width`` rows.

    Arguments:
        dimensions: D.
        width: C, the size of each context vector.
        hidden: hidden layer sizes, any number of layers.
        residual: add each hidden layer's input to its output (equal sizes needed).

    Raises:
        ValueError: for residual layers of unequal sizes, or sizes below 1.

    Example:
        >>> made = MADE(dimensions=5, width=3, hidden=(8, 8))
        >>> made(torch.zeros(2, 5)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self, dimensions: int, width: int, hidden: tuple[int, ...], *, residual: bool = False
    ) -> None:
        super().__init__(dimensions, width)
        if min((dimensions, width, *hidden)) < 1:
            raise ValueError("dimensions, context width and hidden sizes must be at least 1")
        if residual and len(set(hidden)) > 1:
            raise ValueError("residual layers need hidden layers of one size")
        self.residual = residual
        # Degree m sees x_1..x_m. With D = 1 no output may see a hidden unit: degree 1 all the same.
        inputs = torch.arange(1, dimensions + 1)
        degrees = [inputs, *(_spread(1, max(1, dimensions - 1), size) for size in hidden)]
        self.degrees = degrees
        self.hidden = nn.ModuleList(MaskedLinear(a, b) for a, b in itertools.pairwise(degrees))
        self.output = MaskedLinear(degrees[-1], inputs.repeat_interleave(width), strict=True)

    @classmethod
    def parameter_count(cls, config: ModelConfig) -> int:
        """Return the number of weights; the masks need the values of tensors to be built."""
        hidden = stored_options(config.network)["hidden"]
        sizes = (config.dimensions, *hidden, config.dimensions * config.context_width)
        return sum(a * b + b for a, b in itertools.pairwise(sizes))

    @classmethod
    def shifted_units(cls, config: ModelConfig) -> tuple[int, ...]:
        """Return the sizes of all layers, the last one's too: context 1 sees no hidden unit."""
        hidden: tuple[int, ...] = stored_options(config.network)["hidden"]
        return (*hidden, config.dimensions * config.context_width)

    @torch.no_grad()
    def start_at(self, context: Tensor) -> None:
        """Move the contexts of all dimensions by a vector (C,)."""
        self.output.bias.view(self.dimensions, self.width).add_(context.to(self.output.bias))

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Map examples (B, D) to contexts (B, D, C)."""
        batch = Batch.of(batch)
        x, given = batch.x, batch.given
        h, shifts = x, self.shifts(given)
        for i, layer in enumerate(self.hidden):
            y = functional.silu(shifted(layer(h), next(shifts)))
            h = h + y if self.residual and i > 0 else y
        contexts = shifted(self.output(h), next(shifts))
        return contexts.view(x.shape[0], self.dimensions, self.width)

    def incremental(self, given: Tensor) -> IncrementalContexts:
        """Return an evaluation that computes each unit once, in the order of degrees."""
        return _IncrementalMADE(self, given)


def _spread(low: int, high: int, size: int) -> Tensor:
    """Return ``size`` ascending degrees spread evenly over low..high."""
    return low + torch.div(torch.arange(size) * (high - low + 1), size, rounding_mode="floor")


class _IncrementalMADE(IncrementalContexts):
    """Step d computes the hidden units of degree d and the outputs of dimension d + 1, no others.

    All activations live in buffers of shape (units, B): a step's slice is then contiguous.
    """

    @torch.no_grad()
    def __init__(self, made: MADE, given: Tensor) -> None:
        weight = made.output.weight
        self.made, self.step = made, 0
        # The inputs, then each hidden layer.
        self.h = [weight.new_zeros(len(d), len(given)) for d in made.degrees]
        steps = torch.arange(made.dimensions + 1)
        # Units of degree m are rows first[m]..first[m + 1] of their layer.
        self.first = [torch.searchsorted(d, steps).tolist() for d in made.degrees]
        layers: list[MaskedLinear] = [*made.hidden, made.output]
        # Biases are one for all rows, (units, 1), or under conditions each row's own, (units, B).
        self.layers = [
            (m.weight.detach(), shifted(m.bias.detach()[None], shift).T.contiguous())
            for m, shift in zip(layers, made.shifts(given), strict=False)
        ]

    def contexts(self) -> Tensor:
        made, d = self.made, self.step
        reach = self.first[-1][d + 1] if d < made.dimensions else 0
        weight, bias = self.layers[-1]
        rows = slice(d * made.width, (d + 1) * made.width)
        return torch.addmm(bias[rows], weight[rows, :reach], self.h[-1][:reach]).T

    def select(self, rows: Tensor) -> None:
        # What is known reaches up to the present step, in each layer by degree.
        for h, first in zip(self.h, self.first, strict=True):
            known = h[: first[min(self.step, len(first) - 2) + 1]]
            known.copy_(known[:, rows])
        if self.made.conditioning is not None:
            for _, bias in self.layers:
                bias.copy_(bias[:, rows])

    def append(self, x: Tensor) -> None:
        made = self.made
        self.h[0][self.step] = x
        self.step += 1
        d = self.step
        if d >= made.dimensions:
            return
        reach = d
        for i, (weight, bias) in enumerate(self.layers[:-1]):
            below, first = self.h[i], self.first[i + 1]
            a, z = first[d], first[d + 1]
            if z > a:
                y = torch.addmm(bias[a:z], weight[a:z, :reach], below[:reach])
                functional.silu(y, inplace=True)
                if made.residual and i > 0:
                    y += below[a:z]
                self.h[i + 1][a:z] = y
            reach = z
