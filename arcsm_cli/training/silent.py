"""Training without files and curves: ranks but the first, and experiments with many models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.training.loop import Observer, train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings


class Follower(Observer):
    """An observer of the training loop that leaves files and reports to others.

    Arguments:
        stop: polled after every step.
    """

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self._stop = stop

    def stop_requested(self) -> bool:
        return self._stop()


def train_silently(config: ModelConfig, settings: TrainSettings, data: Dataset, device: str) -> Any:
    """Train a model from the start to its last step; return it with its averaged weights.

    Raises:
        DivergedError: see `arcsm_cli.training.loop.train`.
    """
    state = fresh_state(config, settings, device)
    train(state, data, data.limit(settings.batch_size), Follower())
    return state.averaged_model()
