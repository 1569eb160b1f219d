"""What the training loop does not know: how a kind of model turns examples into a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Generator, Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Rows
from arcsm_cli.randomness import Draws

Objective = Callable[[Any, Any, Draws], Any]
"""(model, prepared batch, random) to a loss; a mean over the examples."""


class Task(Protocol):
    """A kind of model in training; it has no state of its own."""

    def curves(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of what a step reports, the loss first."""

    def betas(self) -> tuple[float, float]:
        """Return Adam's decay rates."""

    def groups(self, model: Any, settings: Any) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups; ``rate`` scales the schedule's learning rate."""

    def stages(self, model: Any) -> int:
        """Return how many stages a run has, one after another."""

    def trained(self, model: nn.Module, stage: int) -> list[str]:
        """Return the names of the weights that a stage trains."""

    def begin(self, model: Any, average: dict[str, Tensor], stage: int) -> None:
        """Prepare a stage after the first: its weights, and their average."""

    def objective(self, settings: Any, *, training: bool) -> Objective:
        """Return what is minimised, or followed on held-out data."""

    def prepare(
        self,
        model: Any,
        batch: Batch,
        generator: Generator,
        settings: Any,
        stage: int,
        *,
        training: bool,
    ) -> Any:
        """Return what the objective takes of examples in file units; its ``rows`` gives a part."""

    def fit(self, model: Any, data: Rows, prepared: Any, settings: Any) -> bool:
        """Fit fresh weights to the data and the first batch; whether there was anything to fit."""

    def figures(self, loss: Any) -> tuple[Tensor, ...]:
        """Return of what an objective returned the scalar to minimise, then what `curves` names."""

    def unit(self, model: Any) -> int:
        """Return what losses are divided by: D where they count per dimension."""

    def noisy(self, model: Any) -> bool:
        """Return whether an example's loss is that of a draw."""

    def pictures(self, model: Any, seed: int, count: int) -> Tensor | None:
        """Return images (count, C, H, W) that a model draws, or None where it draws vectors."""
