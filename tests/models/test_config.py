"""Configurations, sound ones and those of hostile files."""

import dataclasses
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig, noise_levels
from arcsm_cli.models.restore import parameter_count

NAMES = [field.name for field in dataclasses.fields(ModelConfig)]

sizes = st.lists(st.integers(1, 6), max_size=3).map(tuple)
scales = st.floats(0.01, 100)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any small configuration that can be used."""
    shape = draw(st.sampled_from([(1,), (2,), (5,), (1, 2, 2), (3, 1, 2)]))
    annealing = draw(st.sampled_from(["joint", "staged", "none"]))
    count = 1 if annealing == "none" else draw(st.integers(2, 4))
    levels = sorted(draw(st.sets(scales, min_size=count, max_size=count)), reverse=True)
    residual = draw(st.booleans())
    hidden = draw(sizes)
    return ModelConfig(
        shape=shape,
        levels=tuple(levels),
        order=draw(st.sampled_from(["raster", "reversed", "random"])),
        order_seed=draw(st.integers(0, 2**63 - 1)),
        context_width=draw(st.integers(1, 4)),
        hidden=hidden[:1] * len(hidden) if residual else hidden,
        residual=residual,
        score_hidden=draw(sizes.filter(len)),
        annealing=annealing,
        mean=(draw(scales),),
        sd=(draw(scales),),
    )


# What a JSON file can hold: numbers beyond every type of a tensor among them.
numbers = st.one_of(
    st.integers(-3, 70_000),
    st.sampled_from([0, -1, 10**30, 10**400, 2**63, 2**64, -(10**400)]),
    st.floats(allow_nan=False),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
sound: dict[str, Any] = ModelConfig(
    shape=(2,), levels=(1.0, 0.1), hidden=(4,), score_hidden=(4,), context_width=2
).to_dict()


@given(configs())
def test_a_usable_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs())
def test_every_usable_config_makes_a_model_of_the_counted_size(config: ModelConfig) -> None:
    assert parameter_count(config) == sum(p.numel() for p in ARCSM(config).parameters())


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(values, st.lists(numbers, max_size=4))))
def test_hostile_entries_are_refused_or_make_a_usable_config(changes: dict[str, Any]) -> None:
    try:
        config = ModelConfig.from_dict(sound | changes)
    except DamagedInputError:
        return
    assert config.problem() is None
    if parameter_count(config) < 10_000:
        model = ARCSM(config)
        assert model.mean.is_floating_point()
        assert model.sd.isfinite().all()
        assert model.sd.min() > 0


@given(values)
def test_anything_but_a_config_is_refused(value: Any) -> None:
    with pytest.raises(DamagedInputError):
        ModelConfig.from_dict(value)


@pytest.mark.parametrize("name", ["shape", "levels"])
def test_a_missing_key_is_refused(name: str) -> None:
    with pytest.raises(DamagedInputError, match="lacks"):
        ModelConfig.from_dict({k: v for k, v in sound.items() if k != name})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(DamagedInputError, match="unknown"):
        ModelConfig.from_dict(sound | {"weights": 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [2, 2]}, "shape"),
        ({"shape": [0]}, "shape"),
        ({"shape": [1 << 10, 1 << 10, 2]}, "shape"),
        ({"shape": [2.0]}, "shape"),
        ({"hidden": [1 << 17]}, "hidden must"),
        ({"hidden": [1] * 300}, "hidden must"),
        ({"score_hidden": []}, "score_hidden must"),
        ({"context_width": 0}, "context_width must"),
        ({"context_width": True}, "wrong type"),
        ({"residual": 1}, "wrong type"),
        ({"hidden": [4, 5], "residual": True}, "one size"),
        ({"order": "spiral"}, "order"),
        ({"order_seed": -1}, "order_seed"),
        ({"order_seed": 1 << 64}, "order_seed"),
        ({"context": "recurrent"}, "context"),
        ({"annealing": "slow"}, "annealing"),
        ({"annealing": "none"}, "one level"),
        ({"levels": [1.0]}, "two or more"),
        ({"levels": []}, "levels"),
        ({"levels": [0.1, 1.0]}, "descending"),
        ({"levels": [1.0, 0.0]}, "positive"),
        ({"levels": [1.0, 1e-300]}, "positive"),
        ({"sd": [0.0]}, "positive"),
        ({"data_scale": [-1.0]}, "positive"),
        ({"sd": [], "data_scale": []}, "1 or D"),
        ({"mean": [0.0, 0.0, 0.0]}, "1 or D"),
        ({"mean": [1e300]}, "mean"),
        ({"mean": [float("nan")]}, "mean"),
    ],
    ids=str,
)
def test_the_reason_for_a_refusal_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedInputError, match=words) as refusal:
        ModelConfig.from_dict(sound | change)
    assert "\n" not in str(refusal.value)


def test_a_single_level_without_noise_can_be_used() -> None:
    assert ModelConfig.from_dict(sound | {"annealing": "none", "levels": [0]}).levels == (0.0,)


@given(st.floats(1e-3, 1e-1), st.floats(0.2, 10), st.integers(2, 12))
def test_noise_levels_fall_by_one_ratio_between_their_ends(
    low: float, high: float, count: int
) -> None:
    levels = noise_levels(high, low, count)
    assert len(levels) == count
    assert (levels[0], levels[-1]) == (high, low)
    ratios = [b / a for a, b in itertools.pairwise(levels)]
    assert max(ratios) - min(ratios) < 1e-9


def test_one_noise_level_is_the_last() -> None:
    assert noise_levels(1.0, 0.1, 1) == (0.1,)
