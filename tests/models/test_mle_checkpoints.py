"""Models with normalised conditionals, and back from their checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcsm_cli.models import restore as restoring
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.restore import make_model, restore
from tests.models.likelihoods import (
    GAUSSIAN,
    KINDS,
    MIXTURE,
    every,
    examples,
    settings_of,
)


def float_model(likelihood: str, context: str) -> tuple[ModelConfig, Any]:
    config = ModelConfig(hidden=(6, 6), **settings_of(likelihood, context))
    torch.manual_seed(0)
    model = make_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return config, model.eval()


def checkpoint_of(config: ModelConfig, model: AutoregressiveModel) -> Checkpoint:
    tensors = {k: v.detach() for k, v in model.named_parameters()}
    return Checkpoint(model.kind, config.to_dict(), {}, [], tensors)


ALL_KINDS = [*KINDS, ("", "made"), ("", "pixelcnn")]


def any_model(likelihood: str, context: str) -> tuple[ModelConfig, Any]:
    """Also AR-CSMs, which have no likelihood."""
    if likelihood:
        return float_model(likelihood, context)
    chosen = settings_of(GAUSSIAN, context)
    config = ModelConfig(hidden=(6,), score_hidden=(5,), **(chosen | {"likelihood": ""}))
    torch.manual_seed(0)
    return config, make_model(config).eval()


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_gives_back_the_weights(tmp_path: Path, likelihood: str, context: str) -> None:
    config, model = any_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    restored = restore(load_checkpoint(tmp_path / "model"))
    assert type(restored) is type(model)
    found, saved = restored.state_dict(), model.state_dict()
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)


@every
@torch.no_grad()
def test_a_checkpoint_gives_back_the_density(tmp_path: Path, likelihood: str, context: str) -> None:
    config, model = float_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    restored = restore(load_checkpoint(tmp_path / "model"))
    assert isinstance(restored, ARMLE)
    x = model.sort(examples(model, 3).float())
    assert torch.equal(restored.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_gives_back_the_configuration(
    tmp_path: Path, likelihood: str, context: str
) -> None:
    config, model = any_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    assert restore(load_checkpoint(tmp_path / "model")).config == config


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_of_the_other_kind_is_refused(likelihood: str, context: str) -> None:
    saved = checkpoint_of(*any_model(likelihood, context))
    other = ARCSM.kind if saved.kind == ARMLE.kind else ARMLE.kind
    with pytest.raises(DamagedInputError, match=other):
        restore(dataclasses.replace(saved, kind=other))


@pytest.mark.parametrize(
    "change",
    [
        {"filters": 4096},
        {"resnet_blocks": 12},
        {"shape": [3, 4, 8], "context": "made"},
        {"likelihood": MIXTURE, "components": 4096, "context_width": 3 * 4096},
    ],
    ids=str,
)
def test_a_small_file_cannot_claim_a_large_network(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    config, model = float_model(GAUSSIAN, "pixelcnn")
    saved = checkpoint_of(config, model)

    def build(config: ModelConfig) -> AutoregressiveModel:
        raise AssertionError("a model was built")

    monkeypatch.setattr(restoring, "make_model", build)
    with pytest.raises(DamagedInputError, match="weights"):
        restore(dataclasses.replace(saved, config=saved.config | change))


def test_tensors_of_another_network_of_equal_size_are_refused() -> None:
    config, model = float_model(GAUSSIAN, "pixelcnn")
    saved = checkpoint_of(config, model)
    name = "stages.0.context.halve_ul.0.direction"
    moved = saved.tensors.pop(name)
    saved.tensors["stages.0.context.halve_ul.2.direction"] = moved
    with pytest.raises(DamagedInputError, match="tensors"):
        restore(saved)
