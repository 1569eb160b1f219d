"""Settings: the learning-rate schedule, files, and what may change when a run goes on."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.training.settings import TrainSettings

Make = Callable[..., TrainSettings]

schedules = pytest.mark.parametrize("schedule", ["cosine", "constant"])


def rates(**values: Any) -> list[float]:
    settings = TrainSettings(**values)
    return [settings.learning_rate(step) for step in range(settings.steps)]


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    lr=st.floats(1e-6, 1.0),
    schedule=st.sampled_from(["cosine", "constant"]),
)
def test_the_rate_is_positive_and_never_above_its_peak(
    steps: int, warmup: int, lr: float, schedule: str
) -> None:
    all_rates = rates(steps=steps, warmup=warmup, lr=lr, schedule=schedule)
    assert min(all_rates) > 0
    assert max(all_rates) <= lr * (1 + 1e-12)


@schedules
def test_the_rate_rises_evenly_at_first(schedule: str) -> None:
    warm = rates(steps=10_000, warmup=10, lr=1.0, schedule=schedule)[:10]
    assert warm == pytest.approx([(i + 1) / 11 for i in range(10)], abs=1e-3)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert set(rates(steps=100, warmup=10, lr=0.5, schedule="constant")[10:]) == {0.5}


def test_a_cosine_rate_falls_to_almost_nothing() -> None:
    after = rates(steps=1000, warmup=10, lr=0.5)[10:]
    assert all(a > b for a, b in itertools.pairwise(after))
    assert after[-1] < 1e-5


def test_a_cosine_rate_is_halved_halfway() -> None:
    assert TrainSettings(steps=1000, lr=0.5).learning_rate(500) == pytest.approx(0.25)


@schedules
def test_without_warm_up_the_first_rate_is_the_peak(schedule: str) -> None:
    assert rates(steps=10, warmup=0, lr=0.5, schedule=schedule)[0] == 0.5


def test_the_warm_up_of_a_short_run_is_at_most_a_fifth_of_it() -> None:
    assert rates(steps=10, warmup=1000, lr=0.5, schedule="constant")[2:] == [0.5] * 8


def test_settings_survive_json(settings: Make) -> None:
    made = settings(schedule="constant", ema=0.5)
    assert TrainSettings.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    "change",
    [{"lr": "1"}, {"steps": 1.5}, {"compile": 1}, {"seed": True}, {"more": 1}, {"schedule": None}],
    ids=str,
)
def test_damaged_settings_are_refused(settings: Make, change: dict[str, Any]) -> None:
    with pytest.raises(DamagedInputError):
        TrainSettings.from_dict(settings().to_dict() | change)


def test_a_run_without_a_length_is_refused(settings: Make) -> None:
    values = settings().to_dict()
    del values["steps"]
    with pytest.raises(DamagedInputError):
        TrainSettings.from_dict(values)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainSettings)][1:])
def test_what_an_earlier_version_did_not_write_is_as_it_was_then(settings: Make, name: str) -> None:
    values = settings().to_dict()
    del values[name]
    then = {"control_variate": "none"}.get(name, getattr(TrainSettings(steps=1), name))
    assert getattr(TrainSettings.from_dict(values), name) == then


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 9},
        {"objective": "dsm"},
        {"draws": 2},
        {"lr": 2e-2},
        {"schedule": "constant"},
        {"warmup": 3},
        {"clip": 2.0},
        {"ema": 0.5},
        {"seed": 1},
        {"precision": "bf16"},
        {"compile": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_is_refused_by_its_option(settings: Make, change: dict[str, Any]) -> None:
    option = "--" + next(iter(change)).replace("_", "-")
    with pytest.raises(UsageError, match=f"^{option} "):
        settings(**change).check_continues(settings())


@pytest.mark.parametrize("change", [{"steps": 99}, {"checkpoint_every": 1}, {"validate_every": 5}])
def test_a_run_may_go_on_longer_and_report_otherwise(
    settings: Make, change: dict[str, Any]
) -> None:
    settings(**change).check_continues(settings())
