"""Gradients as means over ranks, exchanged while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

Losses = TypeVar("Losses")


class SharedGradients:
    """Lets `DistributedDataParallel` see the backward pass of any loss of a model.

    Arguments:
        model: has the same weights on every rank; the first rank's are copied to the others.
        partly: a step trains only some of the weights.
    """

    def __init__(self, model: nn.Module, *, partly: bool) -> None:
        self._parallel = DistributedDataParallel(
            _Evaluation(model),
            find_unused_parameters=partly,
            broadcast_buffers=False,  # they are constants
            gradient_as_bucket_view=True,
        )

    def evaluate(self, losses: Callable[[], Losses], *, last: bool) -> Losses:
        """Return what ``losses`` computes; see `TrainState.evaluate`."""
        with nullcontext() if last else self._parallel.no_sync():
            found: Losses = self._parallel(losses)
        return found


class _Evaluation(nn.Module):
    """A module whose forward pass is whatever it is given; the weights are registered here."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, losses: Callable[[], Any]) -> Any:
        return losses()
