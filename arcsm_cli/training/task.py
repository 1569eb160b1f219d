"""What the training loop does not know: how a kind of model turns examples into a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Generator, Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Rows
from arcsm_cli.randomness import Draws

Objective = Callable[[Any, Any, Draws], Any]
"""(model, prepared batch, random) to a loss; a mean over the examples."""


class Task(ABC):
    """A kind of model in training: by default of one loss and one stage; it has no state."""

    betas = (0.9, 0.99)
    """Adam's decay rates."""

    def curves(self, model: Any) -> tuple[str, ...]:
        """Return the names of what a step reports, the loss first."""
        return ("loss",)

    def groups(self, model: nn.Module, settings: Any) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups; ``rate`` scales the schedule's learning rate."""
        return [{"params": [w for w in model.parameters() if w.requires_grad]}]

    def stages(self, model: Any) -> int:
        """Return how many stages a run has, one after another."""
        return 1

    def trained(self, model: nn.Module, stage: int) -> list[str]:
        """Return the names of the weights that a stage trains."""
        return [name for name, w in model.named_parameters() if w.requires_grad]

    def begin(self, model: Any, average: dict[str, Tensor], stage: int) -> None:  # noqa: B027
        """Prepare a stage after the first: its weights, and their average."""

    @abstractmethod
    def objective(self, settings: Any, *, training: bool) -> Objective:
        """Return what is minimised, or followed on held-out data."""

    @abstractmethod
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
        return False

    def figures(self, loss: Any) -> tuple[Tensor, ...]:
        """Return of what an objective returned the scalar to minimise, then what `curves` names."""
        return loss, loss

    def unit(self, model: Any) -> int:
        """Return what losses are divided by: D where they count per dimension."""
        return 1

    @abstractmethod
    def noisy(self, model: Any) -> bool:
        """Return whether an example's loss is that of a draw."""

    @abstractmethod
    def pictures(self, model: Any, seed: int, count: int) -> Tensor | None:
        """Return images (count, C, H, W) that a model draws, or None where it draws vectors."""
