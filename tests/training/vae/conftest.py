"""Runs of VAEs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.state import TrainState
from tests.training.runs import Run
from tests.training.vae.vaes import Make, config, images, short


@pytest.fixture(scope="session")
def pictures() -> Dataset:
    """40 examples: five batches of 8 an epoch."""
    return images(40, 0)


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    return images(20, 1)


@pytest.fixture
def fresh(pictures: Dataset) -> Callable[..., TrainState]:
    """Makes states before the first step."""

    def make(method: str = "csm", **values: Any) -> TrainState:
        return fresh_state(config(pictures, method=method), short(**values), "cpu")

    return make


@pytest.fixture
def run(tmp_path: Path, pictures: Dataset, held_out: Dataset) -> Make:
    """Makes runs with outputs of their own."""
    names = (tmp_path / f"run{i}.safetensors" for i in itertools.count())

    def make(method: str = "csm", choices: dict[str, Any] | None = None, **values: Any) -> Run:
        made = config(pictures, method=method, **choices or {})
        return Run(next(names), made, short(**values), pictures, held_out)

    return make
