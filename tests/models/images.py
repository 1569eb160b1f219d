"""Context networks of images, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.context import ContextNetwork
from arcsm_cli.models.made import MADE
from arcsm_cli.models.pixelcnn import PixelCNN

Make = Callable[..., Any]
WIDTH, FILTERS = 2, 3


class Case(NamedTuple):
    """A context network of images: its kind and sizes."""

    context: str
    shape: tuple[int, int, int]
    site: int = 1
    blocks: int = 1

    def network(self, *, seed: int = 0, dropout: float = 0.0) -> Any:
        """Make it with weights and biases of order 1, also where a mask hides them."""
        torch.manual_seed(seed)
        network: ContextNetwork
        if self.context == "made":
            channels, height, width = self.shape
            network = MADE(channels * height * width, WIDTH, (50, 50), residual=True)
        else:
            network = PixelCNN(self.shape, WIDTH, FILTERS, self.blocks, dropout, self.site)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        return network.double().eval()

    def inputs(self, batch: int, seed: int = 1) -> Tensor:
        """Return sorted examples (B, D)."""
        channels, height, width = self.shape
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, channels * height * width)
        return torch.randn(shape, generator=generator, dtype=torch.float64)


MADES = [Case("made", shape) for shape in [(1, 4, 4), (1, 3, 5), (3, 2, 2), (3, 4, 4)]]
PIXELCNNS = [
    Case("pixelcnn", (1, 4, 4)),
    Case("pixelcnn", (1, 8, 4), blocks=2),
    Case("pixelcnn", (1, 4, 12), blocks=3),
    Case("pixelcnn", (3, 4, 4)),
    Case("pixelcnn", (3, 4, 8), blocks=2),
    Case("pixelcnn", (2, 8, 4)),
    Case("pixelcnn", (3, 4, 4), site=3, blocks=2),
    Case("pixelcnn", (3, 8, 8), site=3),
]
# One network of each kind of site.
FEW = [PIXELCNNS[1], PIXELCNNS[4], PIXELCNNS[6]]


def cases(networks: list[Case]) -> pytest.MarkDecorator:
    """Parametrise a test over networks; most of them run with the slow tests."""
    fast = (MADES[1], MADES[3], *FEW)
    given = [c if c in fast else pytest.param(c, marks=pytest.mark.slow) for c in networks]
    return pytest.mark.parametrize("case", given, ids=str)


every = cases([*MADES, *PIXELCNNS])
convolutional = cases(PIXELCNNS)
together = cases([c for c in PIXELCNNS if c.site > 1])
few = cases(FEW)


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return df/dx, (*outputs, D), at x (D,) for f of (B, D), which treats examples alike.

    One example for each output, and of each the gradient of that output alone.
    """
    with torch.no_grad():
        shape = f(x[None]).shape[1:]
    rows = x.expand(shape.numel(), -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(rows).flatten(1).diagonal().sum(), rows)
    return gradient.view(*shape, -1)


def one_by_one(network: ContextNetwork, x: Tensor) -> Tensor:
    """Return the contexts of every dimension's site in turn, (B, D, C)."""
    state = network.incremental(torch.empty(len(x), 0))
    contexts = []
    for column in x.T:
        contexts.append(state.contexts())
        state.append(column)
    return torch.stack(contexts, 1)


@torch.no_grad()
def in_one_pass(network: ContextNetwork, x: Tensor) -> Tensor:
    """Return the same by the full pass."""
    contexts: Tensor = network(x).repeat_interleave(network.site, 1)
    return contexts


def gradients(contexts: Tensor, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of a weighted sum of the contexts."""
    weight = torch.linspace(-1, 1, contexts.numel(), dtype=torch.float64).view_as(contexts)
    return torch.autograd.grad((weight * contexts).sum(), wanted)


def noisy(model: Any) -> Any:
    """Give the sub-pixels' weights, zero at first, values of their own."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("earlier"):
                parameter.normal_()
    return model


def case_inputs(model: AutoregressiveModel, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, model.config.dimensions)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
