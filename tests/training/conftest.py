"""Small data, small models and short runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.training import loop
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState


def _points(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves validations of these short runs no longer than a few of their steps."""
    monkeypatch.setattr(loop, "_FEWEST_VALIDATION_EXAMPLES", 24)


@pytest.fixture(scope="session")
def data() -> Dataset:
    """40 examples: five batches of 8 an epoch."""
    return Dataset("train", _points(40, 0))


@pytest.fixture(scope="session")
def valid() -> Dataset:
    return Dataset("valid", _points(20, 1))


@pytest.fixture
def config(data: Dataset) -> Callable[..., ModelConfig]:
    """Makes small configurations for the data."""

    def make(**choices: Any) -> ModelConfig:
        sizes: dict[str, Any] = {"hidden": (6, 6), "score_hidden": (5,), "context_width": 2}
        sizes["frames"] = "none"  # all weights are trained, and from the first step alike
        return model_config(data, Choices(**sizes | choices))

    return make


@pytest.fixture
def settings() -> Callable[..., TrainSettings]:
    """Makes settings of short runs."""

    def make(**values: Any) -> TrainSettings:
        short: dict[str, Any] = {
            "steps": 7,
            "batch_size": 8,
            "lr": 1e-2,
            "warmup": 2,
            "checkpoint_every": 3,
            "validate_every": 2,
        }
        return TrainSettings(**short | values)

    return make


@dataclass
class Watcher:
    """Observes a run; ``after`` asks it to stop once that many steps were done.

    Attributes:
        losses: the loss of every step.
        weights, averages: after every step.
        saved: steps at which a checkpoint was due.
        records: steps at which the history grew.
        gradients: norm of the gradient of every step.
    """

    after: int | None = None
    losses: list[float] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    averages: list[dict[str, Tensor]] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)

    def stepped(self, state: TrainState, loss: float) -> None:
        self.losses.append(loss)
        self.weights.append({k: v.detach().clone() for k, v in state.model.named_parameters()})
        self.averages.append({k: v.clone() for k, v in state.average.items()})
        self.rates.append(state.optimizer.param_groups[0]["lr"])
        grads = [p.grad.norm() for p in state.model.parameters() if p.grad is not None]
        self.gradients.append(float(torch.stack(grads).norm()))

    def recorded(self, state: TrainState) -> None:
        self.records.append(state.step)

    def checkpoint(self, state: TrainState) -> None:
        self.saved.append(state.step)

    def stop_requested(self) -> bool:
        return self.after is not None and len(self.losses) >= self.after


@pytest.fixture
def watcher() -> type[Watcher]:
    return Watcher
