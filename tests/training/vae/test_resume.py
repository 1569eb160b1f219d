"""VAEs that were stopped go on as if they were not, and not from damaged files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.checkpoint import load_checkpoint, load_resume
from arcsm_cli.models.restore import restore_vae
from arcsm_cli.models.vae import VAE
from arcsm_cli.registry import METHODS
from arcsm_cli.training import state as state_module
from arcsm_cli.training.session import resume_path
from arcsm_cli.training.settings import TrainSettings, VAESettings
from arcsm_cli.training.state import TrainState
from tests.training.runs import assert_refused_by_its_option, assert_same_files, equal
from tests.training.vae.vaes import Make

ESTIMATED = ("csm", "ssm", "ssm-ar")
each = pytest.mark.parametrize("method", METHODS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "values"),
    [
        ({"network": "conv", "channels": (2,)}, {}),
        ({"decoder": "gaussian"}, {}),
        ({}, {"score_lr": 1e-3}),
        ({}, {"ema": 0.0, "schedule": "constant", "clip": 0.1}),
        ({}, {"batch_size": 100, "seed": 5}),
    ],
    ids=str,
)
def test_a_run_of_other_settings_goes_on_as_well(
    run: Make, choices: dict[str, Any], values: dict[str, Any]
) -> None:
    whole, parts = (run("csm", choices, **values) for _ in range(2))
    whole.start()
    assert not parts.start(3)
    assert parts.start()
    assert_same_files(whole, parts)


def test_the_checkpoint_holds_the_averaged_weights_of_all_networks(run: Make) -> None:
    complete = run()
    complete.start()
    saved = load_checkpoint(complete.output)
    assert saved.kind == "vae"
    assert equal(saved.tensors, complete.resumed().average)
    assert restore_vae(saved).config == complete.config


def test_a_run_of_one_stage_can_be_made_longer(run: Make) -> None:
    complete = run()
    complete.start()
    assert complete.resumed(steps=20).step == 7


@pytest.mark.parametrize(
    "change",
    [{"score_lr": 2e-2}, {"lr": 2e-2}, {"clip": 1.0}, {"ema": 0.5}, {"seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_is_refused_by_its_option(run: Make, change: dict[str, Any]) -> None:
    assert_refused_by_its_option(run(), change)


@pytest.mark.parametrize(
    ("method", "choices", "option"),
    [
        ("ssm", {}, "--method"),
        ("ssm-ar", {}, "--method"),
        ("csm", {"latent_dim": 3}, "--latent-dim"),
        ("csm", {"hidden": (6, 6)}, "--hidden"),
        ("csm", {"decoder": "gaussian"}, "--decoder"),
        ("csm", {"network": "conv", "channels": (2,)}, "--network"),
        ("csm", {"context_width": 3}, "--context-width"),
        ("csm", {"score_hidden": (4, 4)}, "--score-hidden"),
    ],
    ids=str,
)
def test_another_model_is_refused_by_its_option(
    run: Make, method: str, choices: dict[str, Any], option: str
) -> None:
    stopped, other = run(), run(method, choices)
    stopped.start(2)
    other.output = stopped.output
    with pytest.raises(UsageError, match=option):
        other.resumed()


def test_a_vaes_run_is_not_resumed_as_one_of_another_kind(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    tensors, values = load_resume(resume_path(stopped.output))
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, TrainSettings(steps=7), "cpu")


# Hostile resume files


@pytest.fixture
def content(run: Make) -> tuple[dict[str, Tensor], dict[str, Any], VAESettings]:
    """What a stopped run left: tensors, entries and settings."""
    stopped = run()
    stopped.start(3)
    tensors, values = load_resume(resume_path(stopped.output))
    return tensors, values, stopped.settings


TENSORS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "missing weights": lambda t: t.pop("weights.encoder.bend"),
    "missing averages": lambda t: t.pop("average.encoder.bend"),
    "weights of another shape": lambda t: t.update({"average.encoder.bend": torch.zeros(2)}),
    "weights of another type": lambda t: t.update(
        {"average.encoder.bend": torch.zeros(32, dtype=torch.float64)}
    ),
    "a missing moment": lambda t: t.pop("adam.0.exp_avg"),
    "moments without a step": lambda t: t.pop("adam.0.step"),
    "a moment of another shape": lambda t: t.update({"adam.0.exp_avg_sq": torch.zeros(1)}),
    "a negative second moment": lambda t: t["adam.0.exp_avg_sq"].sub_(1.0),
    "a negative step": lambda t: t.update({"adam.0.step": torch.tensor(-1.0)}),
    "an unknown tensor": lambda t: t.update(more=torch.zeros(1)),
    "moments of no weight": lambda t: t.update({"adam.999.step": torch.ones(())}),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_resume_file_with_bad_tensors_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], VAESettings], name: str
) -> None:
    tensors, values, settings = content
    TENSORS[name](tensors)
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, settings, "cpu")


def changed(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    if len(path) == 1:
        return values | {path[0]: value}
    return values | {path[0]: changed(values[path[0]], path[1:], value)}


ENTRIES: dict[str, tuple[tuple[str, ...], Any]] = {
    "a negative position": (("step",), -1),
    "pending losses of a run without an estimator": (("pending",), [0.0, 0.0]),
    "no score loss": (("history",), {"step": [], "loss": [], "valid_loss": [], "lr": []}),
    "a score loss of another length": (("history", "score_loss"), [1.0] * 9),
    "a score loss in words": (("history", "score_loss"), "ab"),
    "no config": (("config",), None),
    "a config of another kind": (("config",), {"shape": [2], "levels": [1.0]}),
    "another method": (("config", "method"), "ssm"),
    "a method that is none": (("config", "method"), "vae"),
    "a method of another type": (("config", "method"), 3),
    "other sizes": (("config", "hidden"), [6, 6]),
    "settings without a length": (("settings",), {"lr": 0.1}),
    "a rate of another type": (("settings", "score_lr"), "fast"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_resume_file_with_bad_entries_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], VAESettings], name: str
) -> None:
    tensors, values, settings = content
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, changed(values, *ENTRIES[name]), settings, "cpu")


def test_a_small_resume_file_cannot_claim_a_large_vae(
    content: tuple[dict[str, Tensor], dict[str, Any], VAESettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors, values, settings = content

    def build(config: Any) -> VAE:
        raise AssertionError("a model was built")

    monkeypatch.setattr(state_module, "make_model", build)
    large = changed(values, ("config", "hidden"), [1 << 14, 1 << 14])
    with pytest.raises(DamagedInputError, match="weights"):
        TrainState.from_resume(tensors, large, settings, "cpu")
