"""Every context network under conditions: causal, the same in one pass and step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Condition
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import make_model, parameter_count
from arcsm_cli.registry import CONTEXTS

GIVEN = (Condition("labels", ("cat", "dog"), (3, 1)), Condition("age", mean=40.0, sd=9.0))
_SMALL: dict[str, dict[str, Any]] = {
    "made": {"hidden": (12, 12), "residual": True},
    "pixelcnn": {"filters": 4, "resnet_blocks": 1, "dropout": 0.0},
    "transformer": {"layers": 2, "heads": 2, "width": 8},
}
_SHAPES = {
    "made": [(1,), (5,)],
    "pixelcnn": [(1, 8, 4), (3, 4, 4)],
    "transformer": [(1,), (5,), (3, 2, 3)],
}
CASES = [(name, shape) for name in CONTEXTS.tagged("given") for shape in _SHAPES[name]]
each = pytest.mark.parametrize(("name", "shape"), CASES)


def config_of(name: str, shape: tuple[int, ...], **others: Any) -> ModelConfig:
    known: dict[str, Any] = {
        "levels": (1.0, 0.1),
        "context_width": 3,
        "score_hidden": (4,),
        "given": GIVEN,
    }
    return ModelConfig(shape=shape, context=name, **known | _SMALL[name] | others)


def model_of(name: str, shape: tuple[int, ...], **others: Any) -> ARCSM:
    torch.manual_seed(0)
    model = make_model(config_of(name, shape, **others))
    assert isinstance(model, ARCSM)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():  # zeros would hide what depends on what
        weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.double().eval()


def batch_of(model: ARCSM, count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, model.config.dimensions, generator=generator, dtype=torch.float64)
    kinds = torch.eye(2, dtype=torch.float64)[torch.arange(count) % 2]
    ages = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return Batch(x, torch.cat([kinds, ages], 1))


@each
def test_a_context_depends_on_earlier_values_alone_and_on_what_is_given(
    name: str, shape: tuple[int, ...]
) -> None:
    model = model_of(name, shape)
    x, given, _ = batch_of(model, 1)

    def contexts(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return model.contexts(Batch(x, given))[0]

    of_x, of_given = torch.autograd.functional.jacobian(contexts, (x, given))
    reach = of_x[:, :, 0].abs().amax(1)  # (D, D)
    assert reach.triu().max() == 0
    assert reach.tril(-1).max() > 0 or len(reach) == 1
    assert (of_given[:, :, 0].abs().amax(1) > 1e-6).all()


@each
@pytest.mark.parametrize("frames", ["none", "linear"])
def test_step_by_step_contexts_are_those_of_one_pass(
    name: str, shape: tuple[int, ...], frames: str
) -> None:
    model = model_of(name, shape, frames=frames)
    batch = batch_of(model)
    expected = model.contexts(batch)
    (state,) = model.incremental(batch.given)
    rows = torch.tensor([2, 0, 0, 3])
    for d in range(model.config.dimensions):
        if d == (model.config.dimensions + 1) // 2:  # rows go on with their own condition
            state.select(rows)
            batch, expected = batch.rows(rows), expected[rows]
        assert torch.allclose(state.contexts(), expected[:, d], atol=1e-5)
        state.append(batch.x[:, d])


@each
@pytest.mark.parametrize("frames", ["none", "linear"])
def test_weights_are_counted_before_they_are_made(
    name: str, shape: tuple[int, ...], frames: str
) -> None:
    config = config_of(name, shape, frames=frames)
    assert parameter_count(config) == sum(p.numel() for p in make_model(config).parameters())


def test_a_description_comes_back_from_json_and_damage_is_refused() -> None:
    config = config_of("made", (5,))
    values = config.to_dict()
    assert ModelConfig.from_dict(values) == config
    for damage in (
        [{"name": "labels"}],
        [{"name": "labels", "categories": ["a", "a"], "counts": [1, 1]}],
        [{"name": "labels", "categories": ["a", "b"], "counts": [1]}],
        [{"name": "labels", "categories": ["a", "b"], "counts": [0, 0]}],
        [{"name": "age", "mean": 0.0, "sd": 0.0}],
        [{"name": "age", "mean": float("nan"), "sd": 1.0}],
        2 * [{"name": "age", "mean": 0.0, "sd": 1.0}],
        [{"name": "n", "categories": list(map(str, range(2000))), "counts": [1] * 2000}],
    ):
        with pytest.raises(DamagedInputError, match="given"):
            ModelConfig.from_dict(values | {"given": damage})


def test_a_model_without_conditions_has_none_in_its_file() -> None:
    config = config_of("made", (5,), given=())
    assert "given" not in config.to_dict()
    assert ModelConfig.from_dict(config.to_dict()) == config
