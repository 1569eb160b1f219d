"""Small data, small models and short runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws
from arcsm_cli.training import autoregressive, loop
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState
from tests.training.runs import SCORES, Run

Make = Callable[..., Any]


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
        return model_config(data, Choices(**SCORES | choices))

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


def _pictures(n: int, seed: int) -> Tensor:
    """Brightness falls from the top of each picture to its bottom: there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    top = torch.linspace(200, 50, 4)[:, None]
    values = top + 25 * torch.randn(n, 1, 4, 4, generator=generator)
    return values.clamp(0, 255).round().to(torch.uint8)


@pytest.fixture(scope="session")
def pictures() -> Dataset:
    """40 grey images of 4 x 4 pixels: five batches of 8 an epoch."""
    return Dataset("pictures", _pictures(40, 0))


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    return Dataset("held out", _pictures(20, 1))


@pytest.fixture
def examples(data: Dataset, valid: Dataset, pictures: Dataset, held_out: Dataset) -> Make:
    """The training and the held-out examples for choices."""

    def get(choices: dict[str, Any]) -> tuple[Dataset, Dataset]:
        return (pictures, held_out) if choices.get("context") == "pixelcnn" else (data, valid)

    return get


@pytest.fixture
def fresh(settings: Make, pictures: Dataset, data: Dataset) -> Callable[..., TrainState]:
    """Makes states before the first step, of images where the context network takes those."""

    def make(choices: dict[str, Any] = SCORES, **values: Any) -> TrainState:
        examples = pictures if choices.get("context") == "pixelcnn" else data
        return fresh_state(model_config(examples, Choices(**choices)), settings(**values), "cpu")

    return make


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[tuple[NoisyBatch, float]]]:
    """Notes what an objective is given in training, and what it returns."""

    def watch(name: str) -> list[tuple[NoisyBatch, float]]:
        seen: list[tuple[NoisyBatch, float]] = []
        real = autoregressive.OBJECTIVES[name]

        def objective(model: Any, batch: NoisyBatch, random: Draws) -> Tensor:
            loss = real(model, batch, random)
            if loss.requires_grad:  # validation is without
                seen.append((batch, float(loss.detach())))
            return loss

        monkeypatch.setitem(autoregressive.OBJECTIVES, name, objective)
        return seen

    return watch


@pytest.fixture
def run(tmp_path: Path, settings: Make, examples: Make) -> Callable[..., Run]:
    """Makes runs with outputs of their own."""
    names = (tmp_path / f"run{i}.safetensors" for i in itertools.count())

    def make(choices: dict[str, Any] = SCORES, **values: Any) -> Run:
        data, valid = examples(choices)
        config = model_config(data, Choices(**choices))
        return Run(next(names), config, settings(**values), data, valid)

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
