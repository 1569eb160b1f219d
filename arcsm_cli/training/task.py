"""What the training loop does not know: how a kind of model turns examples into gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.vae import VAE

if TYPE_CHECKING:
    from arcsm_cli.training.state import TrainState

_VALIDATION_EXAMPLES, _FEWEST_VALIDATION_EXAMPLES = 2048, 256


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

    def begin(self, state: TrainState, stage: int) -> None:
        """Prepare a stage after the first."""

    def gradient(self, state: TrainState, x: Tensor, stage: int) -> list[Tensor]:
        """Add the gradient of a step on examples in file units; return what `curves` names."""

    def validation_loss(self, state: TrainState, valid: Dataset, stage: int) -> float:
        """Return the loss of the averaged weights on held-out data, the same draws every time."""

    def pictures(self, state: TrainState, count: int) -> Tensor | None:
        """Return images (count, C, H, W) that the averaged weights draw, or None."""


def task_for(model: nn.Module) -> Task:
    """Return the task that trains a model."""
    if isinstance(model, VAE):
        from arcsm_cli.training.vae_task import VAETask

        return VAETask()
    from arcsm_cli.training.autoregressive import AutoregressiveTask

    return AutoregressiveTask()


def validation_batches(state: TrainState, valid: Dataset) -> Iterator[Tensor]:
    """Iterate over held-out examples, as many as cost a few percent of the steps between two."""
    size = state.settings.batch_size
    share = state.settings.validate_every * size // 8
    count = min(_VALIDATION_EXAMPLES, max(_FEWEST_VALIDATION_EXAMPLES, share))
    return valid.limit(count).batches(size)
