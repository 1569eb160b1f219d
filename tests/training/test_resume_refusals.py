"""What a resumed run does not go on from: other settings, models and data, and damaged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.checkpoint import load_resume
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.training import state
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState
from tests.training.runs import DISCRETE, PIXELCNN, SCORES, assert_refused_by_its_option, equal

Make = Callable[..., Any]

STAGED: dict[str, Any] = {"annealing": "staged", "levels": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 9},
        {"objective": "dsm"},
        {"lr": 2e-2},
        {"schedule": "constant"},
        {"ema": 0.5},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_is_refused_by_its_option(run: Make, change: dict[str, Any]) -> None:
    assert_refused_by_its_option(run(), change)


def test_a_staged_run_cannot_change_the_length_of_its_stages(run: Make) -> None:
    stopped = run(SCORES | STAGED)
    stopped.start(9)
    with pytest.raises(UsageError, match="--steps"):
        stopped.resumed(steps=20)


@pytest.mark.parametrize(
    ("choices", "option"),
    [
        ({"hidden": (7, 7)}, "--hidden"),
        ({"context_width": 3}, "--context-width"),
        ({"score_hidden": (6,)}, "--score-hidden"),
        ({"order": "reversed"}, "--order"),
        ({"residual": True}, "--residual"),
        ({"annealing": "none"}, "--annealing"),
        ({"sigma_min": 0.1}, "--sigma-min"),
        ({"sigma_max": 9.0}, "--sigma-max"),
        ({"levels": 4}, "--levels"),
        ({"standardize": True}, "--standardize"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_model_is_refused_by_its_option(
    run: Make, config: Make, choices: dict[str, Any], option: str
) -> None:
    stopped = run()
    stopped.start(2)
    stopped.config = config(**choices)
    with pytest.raises(UsageError, match=option):
        stopped.resumed()


def test_another_network_is_refused_by_its_option(run: Make, pictures: Dataset) -> None:
    stopped = run(DISCRETE, objective="mle")
    stopped.start(1)
    others: dict[str, dict[str, Any]] = {
        "--filters": {"filters": 5},
        "--resnet-blocks": {"resnet_blocks": 2},
        "--dropout": {"dropout": 0.25},
        "--components": {"components": 3},
        "--likelihood": {"likelihood": "gaussian", "sigma_min": 0.0},
        "--context": {"context": "made"},
        "--order": {"order": "reversed"},
    }
    with pytest.raises(UsageError, match=r"^--grad-accumulation is 2"):
        stopped.resumed(grad_accumulation=2)
    for option, choices in others.items():
        stopped.config = model_config(pictures, Choices(**DISCRETE | choices))
        with pytest.raises(UsageError, match=f"^{option} is "):
            stopped.resumed()
    # Noise and likelihood are named together, as either may decide the other.
    choices = DISCRETE | {"likelihood": "logistic-mixture", "sigma_min": 0.5}
    stopped.config = model_config(pictures, Choices(**choices))
    with pytest.raises(
        UsageError, match=r"--likelihood is logistic-mixture with --sigma-min 0\.5,"
    ):
        stopped.resumed()


@pytest.mark.parametrize("earlier", ["csm", "mle"])
def test_another_objective_is_named_before_what_follows_from_it(run: Make, earlier: str) -> None:
    models = {"csm": PIXELCNN, "mle": DISCRETE}
    now = "mle" if earlier == "csm" else "csm"
    stopped, other = run(models[earlier], objective=earlier), run(models[now], objective=now)
    stopped.start(1)
    stopped.config, stopped.settings = other.config, other.settings
    with pytest.raises(UsageError, match=f"^--objective is {now}, .* has {earlier}$"):
        stopped.resumed()


@pytest.mark.parametrize("value", [0.5, "2", True, None])
def test_damaged_parts_are_refused(settings: Make, value: Any) -> None:
    with pytest.raises(DamagedInputError):
        TrainSettings.from_dict(settings().to_dict() | {"grad_accumulation": value})


def test_other_data_are_refused(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    stopped.data = Dataset("other", stopped.data.values + 1)
    with pytest.raises(UsageError, match="other data"):
        stopped.resumed()


def test_nothing_to_resume_is_missing(run: Make) -> None:
    with pytest.raises(MissingInputError):
        run().resumed()


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"{}"], ids=["empty", "zeros", "short"])
def test_a_damaged_resume_file_is_refused_by_name(run: Make, content: bytes) -> None:
    stopped = run()
    stopped.start(2)
    stopped.files[1].write_bytes(content)
    with pytest.raises(DamagedInputError, match=r"safetensors\.resume"):
        stopped.resumed()


def test_a_cut_resume_file_is_refused(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    content = stopped.files[1].read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 9):
        stopped.files[1].write_bytes(content[:kept])
        with pytest.raises(DamagedInputError):
            stopped.resumed()


def test_a_checkpoint_is_no_resume_file(run: Make) -> None:
    stopped = run()
    stopped.start(2)
    stopped.files[1].write_bytes(stopped.files[0].read_bytes())
    with pytest.raises(DamagedInputError, match="resume"):
        stopped.resumed()


# Content that a hostile file may hold


@pytest.fixture
def content(run: Make) -> tuple[dict[str, Tensor], dict[str, Any], TrainSettings]:
    """Tensors and entries of a sound resume file, to be spoiled."""
    stopped = run(SCORES | {"frames": "none"})  # all weights are trained, the first one too
    stopped.start(3)
    tensors, values = load_resume(stopped.files[1])
    return dict(tensors), dict(values), stopped.settings


TENSORS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "no weights": lambda t: t.pop("weights.stages.0.score.out.bias"),
    "no average": lambda t: t.pop("average.stages.0.score.out.bias"),
    "weights of another shape": lambda t: t.update(
        {"average.stages.0.score.out.bias": torch.zeros(2)}
    ),
    "weights of another type": lambda t: t.update(
        {"average.stages.0.score.out.bias": torch.zeros(1, dtype=torch.complex64)}
    ),
    "a missing moment": lambda t: t.pop("adam.0.exp_avg"),
    "moments without a step": lambda t: t.pop("adam.0.step"),
    "a first moment of another shape": lambda t: t.update({"adam.0.exp_avg": torch.zeros(1)}),
    "a second moment of another shape": lambda t: t.update({"adam.0.exp_avg_sq": torch.zeros(1)}),
    "a step that is no scalar": lambda t: t.update({"adam.0.step": torch.ones(3)}),
    "a negative step": lambda t: t.update({"adam.0.step": torch.tensor(-1.0)}),
    "a negative second moment": lambda t: t["adam.0.exp_avg_sq"].sub_(1.0),
    "moments of whole numbers": lambda t: t.update({"adam.0.exp_avg": t["adam.0.exp_avg"].long()}),
    "no posterior shares": lambda t: t.pop("posterior_shares"),
    "posterior shares above 1": lambda t: t["posterior_shares"].add_(1.0),
    "posterior shares of another shape": lambda t: t.update(posterior_shares=torch.ones(3)),
    "an unknown tensor": lambda t: t.update(more=torch.zeros(1)),
    "moments of no weight": lambda t: t.update({"adam.999.step": torch.ones(())}),
}
ENTRIES: dict[str, dict[str, Any]] = {
    "a negative position": {"step": -1},
    "a broken position": {"step": 1.5},
    "an infinite position": {"step": float("inf")},
    "a position in words": {"step": "3"},
    "no pending losses": {"pending": []},
    "pending losses in words": {"pending": "ab"},
    "infinite pending losses": {"pending": [float("inf"), 1]},
    "pending losses beyond numbers": {"pending": [10**400, 1]},
    "no curves": {"history": {}},
    "curves of unequal lengths": {"history": {"step": [1], "loss": [], "valid_loss": [], "lr": []}},
    "a curve that is no list": {"history": {"step": 1, "loss": 1, "valid_loss": 1, "lr": 1}},
    "curves that are no object": {"history": []},
    "no config": {"config": None},
    "no settings": {"settings": None},
    "settings that are a list": {"settings": []},
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_resume_file_with_bad_tensors_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], name: str
) -> None:
    tensors, values, settings = content
    TENSORS[name](tensors)
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, settings, "cpu")


@pytest.mark.parametrize("name", ENTRIES)
def test_a_resume_file_with_bad_entries_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], name: str
) -> None:
    tensors, values, settings = content
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values | ENTRIES[name], settings, "cpu")


@pytest.mark.parametrize("key", ["config", "settings", "step", "history", "pending"])
def test_a_resume_file_that_lacks_an_entry_is_refused(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings], key: str
) -> None:
    tensors, values, settings = content
    del values[key]
    with pytest.raises(DamagedInputError):
        TrainState.from_resume(tensors, values, settings, "cpu")


def test_a_small_resume_file_cannot_claim_a_large_model(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors, values, settings = content
    values["config"] = values["config"] | {"hidden": [1 << 16, 1 << 16]}

    def build(config: Any) -> ARCSM:
        raise AssertionError("a model was built")

    monkeypatch.setattr(state, "make_model", build)
    with pytest.raises(DamagedInputError, match="weights"):
        TrainState.from_resume(tensors, values, settings, "cpu")


def test_a_resumed_state_owns_its_tensors(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
) -> None:
    tensors, values, settings = content
    resumed = TrainState.from_resume(tensors, values, settings, "cpu")
    before = resumed.resume_file([], "")[0]
    before = {k: v.clone() for k, v in before.items()}
    for tensor in tensors.values():
        tensor.zero_()
    assert equal(resumed.resume_file([], "")[0], before)


def test_a_file_of_before_control_variates_goes_on_without(
    content: tuple[dict[str, Tensor], dict[str, Any], TrainSettings],
) -> None:
    tensors, values, settings = content
    del tensors["posterior_shares"], values["settings"]["control_variate"]
    with pytest.raises(UsageError, match="--control-variate is auto"):
        TrainState.from_resume(dict(tensors), values, settings, "cpu")
    exact = replace(settings, control_variate="none")
    assert TrainState.from_resume(tensors, values, exact, "cpu").model.shares is None
