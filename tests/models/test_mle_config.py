"""Configurations of likelihoods and PixelCNNs: usable ones make models, others are refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import make_model, parameter_count
from arcsm_cli.registry import LIKELIHOODS
from tests.models.likelihoods import (
    DISCRETE,
    GAUSSIAN,
    KINDS,
    MIXTURE,
    settings_of,
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any small configuration with a PixelCNN, a likelihood or both."""
    likelihood, context = draw(st.sampled_from([*KINDS, ("", "pixelcnn")]))
    sides = st.sampled_from([4, 8])
    shape: tuple[int, ...] = (draw(st.sampled_from([1, 3])), draw(sides), draw(sides))
    if context == "made" and likelihood != DISCRETE and draw(st.booleans()):
        shape = (draw(st.integers(1, 6)),)
    components = draw(st.integers(1, 4))
    annealing = "none"
    levels: tuple[float, ...] = (0.0 if likelihood == DISCRETE else 0.3,)
    width = draw(st.integers(1, 4))
    if likelihood:
        together = likelihood == DISCRETE and context == "pixelcnn"
        width = parameter_width(likelihood, components, shape[0] if together else 1)
    elif draw(st.booleans()):
        annealing, levels = draw(st.sampled_from(["joint", "staged"])), (3.0, 0.5, 0.1)
    # The discretized likelihood is stated for one scale.
    scale: dict[str, tuple[float, ...]] = {"data_shift": (0.5,), "data_scale": (0.5,)}
    return ModelConfig(
        **(scale if likelihood == DISCRETE else {}),
        shape=shape,
        levels=levels,
        order=draw(st.sampled_from(["raster", "reversed"])),
        context=context,
        context_width=width,
        hidden=tuple(draw(st.lists(st.integers(1, 6), max_size=2))),
        filters=draw(st.integers(1, 5)),
        resnet_blocks=draw(st.integers(1, 2)),
        dropout=draw(st.floats(0, 0.9)),
        score_hidden=tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))),
        likelihood=likelihood,
        components=components,
        annealing=annealing,
    )


@given(configs())
def test_every_usable_config_makes_a_model_of_the_counted_size(config: ModelConfig) -> None:
    assert config.problem() is None
    assert parameter_count(config) == sum(p.numel() for p in make_model(config).parameters())


@given(configs())
def test_a_usable_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs(), st.integers(1, 3))
@torch.no_grad()
def test_every_usable_config_has_contexts_of_its_size(config: ModelConfig, batch: int) -> None:
    model = make_model(config).eval()
    contexts = model.contexts(torch.zeros(batch, config.dimensions))
    assert contexts.shape == (batch, config.dimensions // config.site, config.context_width)


def test_counting_builds_no_weights() -> None:
    config = ModelConfig(
        shape=(3, 4, 4), levels=(1.0, 0.1), context="pixelcnn", filters=4096, resnet_blocks=2
    )
    before = torch.get_rng_state()
    # Some 10^10 numbers: no machine that runs tests would hold them twice.
    assert parameter_count(config) > 10**9
    assert torch.equal(torch.get_rng_state(), before)


SOUND: dict[str, dict[str, Any]] = {
    "pixels": ModelConfig(**settings_of(DISCRETE, "pixelcnn")).to_dict(),
    "vectors": ModelConfig(**settings_of(GAUSSIAN, shape=(2,))).to_dict(),
    "scores": ModelConfig(
        shape=(1, 4, 4), levels=(1.0, 0.1), context="pixelcnn", filters=3, resnet_blocks=1
    ).to_dict(),
}


@pytest.mark.parametrize(
    ("sound", "change", "words"),
    [
        ("vectors", {"likelihood": "poisson"}, "likelihood"),
        ("vectors", {"likelihood": 3}, "wrong type"),
        ("vectors", {"likelihood": None}, "wrong type"),
        ("vectors", {"likelihood": ["gaussian"]}, "wrong type"),
        ("vectors", {"likelihood": "Gaussian"}, "likelihood"),
        ("vectors", {"annealing": "joint", "levels": [1.0, 0.1]}, "no annealing"),
        ("vectors", {"annealing": "staged", "levels": [1.0, 0.1]}, "no annealing"),
        ("vectors", {"context_width": 3}, "context_width"),
        ("vectors", {"likelihood": MIXTURE}, "context_width"),
        ("vectors", {"likelihood": DISCRETE, "levels": [0.0]}, "8-bit images"),
        ("vectors", {"context": "pixelcnn"}, "images of 1 or 3 channels"),
        ("vectors", {"levels": [-0.1]}, "levels"),
        ("pixels", {"levels": [0.1]}, "without noise"),
        ("pixels", {"mean": [0.2]}, "as they are"),
        ("pixels", {"sd": [0.5]}, "as they are"),
        ("pixels", {"data_shift": [0.0]}, "as they are"),
        ("pixels", {"data_scale": [1.0]}, "as they are"),
        ("pixels", {"context": "made"}, "context_width"),
        ("pixels", {"components": 3}, "context_width"),
        ("pixels", {"components": 0}, "components"),
        ("pixels", {"components": 4097}, "components"),
        ("pixels", {"components": 2.0}, "wrong type"),
        ("pixels", {"components": True}, "wrong type"),
        ("pixels", {"shape": [1, 4, 4]}, "context_width"),
        ("pixels", {"shape": [2, 4, 4]}, "context_width must be"),
        ("pixels", {"shape": [3, 4, 6]}, "multiples of 4"),
        ("pixels", {"shape": [3, 0, 4]}, "shape"),
        ("pixels", {"order": "random"}, "raster and reversed"),
        ("scores", {"filters": 0}, "filters"),
        ("scores", {"filters": -3}, "filters"),
        ("scores", {"filters": 4097}, "filters"),
        ("scores", {"filters": 10**30}, "filters"),
        ("scores", {"filters": True}, "wrong type"),
        ("scores", {"filters": 3.0}, "wrong type"),
        ("scores", {"resnet_blocks": 0}, "blocks"),
        ("scores", {"resnet_blocks": 65}, "blocks"),
        ("scores", {"resnet_blocks": "1"}, "wrong type"),
        ("scores", {"dropout": 1}, "dropout"),
        ("scores", {"dropout": 1.0}, "dropout"),
        ("scores", {"dropout": -0.1}, "dropout"),
        ("scores", {"dropout": float("nan")}, "dropout"),
        ("scores", {"dropout": float("inf")}, "dropout"),
        ("scores", {"dropout": True}, "wrong type"),
        ("scores", {"dropout": [0.5]}, "wrong type"),
        ("scores", {"context": "PixelCNN"}, "context"),
        ("scores", {"context": 1}, "wrong type"),
    ],
    ids=str,
)
def test_the_reason_for_a_refusal_is_named(sound: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedInputError, match=words) as refusal:
        ModelConfig.from_dict(SOUND[sound] | change)
    assert "\n" not in str(refusal.value)


def test_a_dropout_of_0_is_a_number() -> None:
    assert type(ModelConfig.from_dict(SOUND["scores"] | {"dropout": 0}).network.dropout) is float


numbers = st.one_of(
    st.integers(-3, 70_000),
    st.sampled_from([0, 1, 4, 256, 4096, 10**30, 10**400, 2**63, -(10**400)]),
    st.floats(allow_nan=False),
)
names = st.sampled_from([field.name for field in dataclasses.fields(ModelConfig)])
words = st.sampled_from(["", "made", "pixelcnn", "none", "joint", *LIKELIHOODS, "\n", "x" * 999])
values = st.one_of(
    st.none(), st.booleans(), numbers, words, st.lists(numbers, max_size=4), st.just({})
)


@pytest.mark.parametrize("sound", list(SOUND))
@given(changes=st.dictionaries(names, values, max_size=4))
def test_hostile_entries_are_refused_or_make_a_usable_model(
    sound: str, changes: dict[str, Any]
) -> None:
    try:
        config = ModelConfig.from_dict(SOUND[sound] | changes)
    except DamagedInputError:
        return
    assert config.problem() is None
    own = vars(config.network)
    assert 0 <= own.get("dropout", 0) < 1
    narrow = own.get("resnet_blocks", 0) <= 2 and own.get("filters", 0) <= 64
    small = narrow and config.dimensions < 1000
    if small and parameter_count(config) < 10_000:
        model = make_model(config).eval()
        with torch.no_grad():
            contexts = model.contexts(torch.zeros(1, config.dimensions))
        assert contexts.isfinite().all()
