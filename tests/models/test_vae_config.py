"""Configurations of VAEs, sound ones and those of hostile files."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import config_type, parameter_count
from arcsm_cli.models.vae import VAE
from arcsm_cli.models.vae_config import DECODERS, NETWORKS, VAEConfig
from arcsm_cli.registry import METHODS

NAMES = [field.name for field in dataclasses.fields(VAEConfig)]
sizes = st.integers(1, 6)
scales = st.floats(0.01, 100)


@st.composite
def configs(draw: st.DrawFn) -> VAEConfig:
    """Any small configuration that can be used."""
    network = draw(st.sampled_from(NETWORKS))
    channels = tuple(draw(st.lists(sizes, min_size=1, max_size=2))) if network == "conv" else ()
    side = st.integers(1, 2).map(lambda n: n << len(channels))
    shape: tuple[int, ...] = (draw(st.integers(1, 3)), draw(side), draw(side))
    if network == "mlp" and draw(st.booleans()):
        shape = shape[:1]
    return VAEConfig(
        shape=shape,
        latent_dim=draw(sizes),
        method=draw(st.sampled_from([*METHODS])),
        network=network,
        hidden=(draw(sizes), draw(sizes)),
        channels=channels,
        decoder=draw(st.sampled_from(DECODERS)),
        context_width=draw(sizes),
        score_hidden=tuple(draw(st.lists(sizes, min_size=1, max_size=3))),
        particles=draw(st.integers(2, 9)),
        data_shift=(draw(scales),),
        data_scale=(draw(scales),),
    )


# What a JSON file can hold: numbers beyond every type of a tensor among them.
numbers = st.one_of(
    st.integers(-3, 70_000),
    st.sampled_from([0, -1, 10**30, 10**400, 2**63, 2**64, -(10**400)]),
    st.floats(),
)
names = st.sampled_from([*METHODS, *NETWORKS, *DECODERS])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=4), names),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
sound: dict[str, Any] = VAEConfig(
    shape=(2,), latent_dim=2, hidden=(4, 4), score_hidden=(4,), context_width=2
).to_dict()


@given(configs())
def test_a_usable_config_survives_json(config: VAEConfig) -> None:
    assert VAEConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs())
def test_every_usable_config_makes_a_vae_of_the_counted_size(config: VAEConfig) -> None:
    assert parameter_count(config) == sum(p.numel() for p in VAE(config).parameters())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_vae_has_the_counted_size(method: str, network: str, decoder: str) -> None:
    config = VAEConfig(
        shape=(1, 4, 8),
        latent_dim=3,
        method=method,
        network=network,
        decoder=decoder,
        hidden=(6, 5),
        channels=(2, 3) if network == "conv" else (),
        score_hidden=(4, 3),
    )
    assert parameter_count(config) == sum(p.numel() for p in VAE(config).parameters())


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(values, st.lists(numbers, max_size=4))))
def test_hostile_entries_are_refused_or_make_a_usable_config(changes: dict[str, Any]) -> None:
    try:
        config = VAEConfig.from_dict(sound | changes)
    except DamagedInputError:
        return
    assert config.problem() is None
    if parameter_count(config) < 10_000:
        vae = VAE(config)
        back = vae.unflatten(vae.flatten(torch.ones(2, *config.shape)))
        assert back.isfinite().all()


@given(values)
def test_anything_but_a_config_is_refused(value: Any) -> None:
    with pytest.raises(DamagedInputError):
        VAEConfig.from_dict(value)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "columns"])
def test_a_missing_key_is_refused(name: str) -> None:
    with pytest.raises(DamagedInputError, match="keys"):
        VAEConfig.from_dict({k: v for k, v in sound.items() if k != name})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(DamagedInputError, match="keys"):
        VAEConfig.from_dict(sound | {"weights": 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [2, 2]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": [0]}, "shape"),
        ({"shape": [-2, -2, 1]}, "shape"),
        ({"shape": [1 << 10, 1 << 10, 2]}, "shape"),
        ({"shape": [2.0]}, "shape"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": 1025}, "latent_dim"),
        ({"latent_dim": 2.0}, "wrong type"),
        ({"latent_dim": True}, "wrong type"),
        ({"method": "vae"}, "method"),
        ({"network": "transformer"}, "network"),
        ({"decoder": "poisson"}, "decoder"),
        ({"hidden": [4]}, "two layers"),
        ({"hidden": [4, 4, 4]}, "two layers"),
        ({"hidden": [4, 0]}, "hidden"),
        ({"hidden": [1 << 15, 4]}, "layer sizes"),
        ({"score_hidden": []}, "score_hidden"),
        ({"score_hidden": [4] * 17}, "layer sizes"),
        ({"context_width": 0}, "context_width"),
        ({"particles": 1}, "particles"),
        ({"particles": 5000}, "particles"),
        ({"channels": [4]}, "channels"),
        ({"network": "conv"}, "channels"),
        ({"network": "conv", "channels": [4]}, "images"),
        ({"network": "conv", "channels": [4], "shape": [1, 3, 4]}, "multiples of 2"),
        ({"network": "conv", "channels": [4] * 17, "shape": [1, 4, 4]}, "channels"),
        ({"data_scale": [0.0]}, "positive"),
        ({"data_scale": [-1.0]}, "positive"),
        ({"data_scale": [1e-300]}, "positive"),
        ({"data_scale": []}, "1 or D"),
        ({"data_shift": [0.0, 0.0, 0.0]}, "1 or D"),
        ({"data_shift": [1e300]}, "data_shift"),
        ({"data_shift": [float("nan")]}, "data_shift"),
        ({"data_shift": [True]}, "data_shift"),
    ],
    ids=str,
)
def test_the_reason_for_a_refusal_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedInputError, match=words) as refusal:
        VAEConfig.from_dict(sound | change)
    assert "\n" not in str(refusal.value)


def test_the_config_tells_which_kind_of_model_it_is_of() -> None:
    other = ModelConfig(shape=(2,), levels=(1.0, 0.1)).to_dict()
    assert config_type(sound) is VAEConfig
    assert config_type(other) is config_type([]) is config_type(None) is ModelConfig
