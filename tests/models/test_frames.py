"""Frames: contexts that say where a conditional lies and how wide it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import nothing_given
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.prediction import linear_prediction
from arcsm_cli.models.restore import make_model, parameter_count

CASES: list[dict[str, Any]] = [
    {"shape": (5,), "frames": "linear"},
    {"shape": (5,), "frames": "contexts"},
    {"shape": (3, 4, 4), "frames": "contexts", "context": "pixelcnn"},
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['frames']} {len(c['shape'])}")


def examples(n: int, dimensions: int, seed: int = 0) -> Tensor:
    """Correlated Gaussians, each variable mostly a sum of the two before."""
    z = torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed)).double()
    for d in range(1, dimensions):
        z[:, d] = 0.3 * z[:, d] + z[:, max(0, d - 2) : d].sum(1) / 2 + 1
    return z


def framed(case: dict[str, Any]) -> ARCSM:
    sizes: dict[str, Any] = {"hidden": (12, 12), "filters": 4, "resnet_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_model(ModelConfig(levels=(3.0, 0.1), **sizes | case)).double().eval()
    assert isinstance(model, ARCSM)
    model.fit_frames(examples(200, model.config.dimensions))
    return model


@cases
@torch.no_grad()
def test_contexts_come_out_one_after_another_as_they_do_in_one_pass(case: dict[str, Any]) -> None:
    model = framed(case)
    x = examples(4, model.config.dimensions, seed=1)
    expected = model.contexts(x)
    (walk,) = model.incremental(nothing_given(4, x))
    rows = torch.tensor([2, 2, 0, 1])
    for d in range(x.shape[1]):
        if d == 3:  # go on with other rows
            walk.select(rows)
            x, expected = x[rows], expected[rows]
        assert torch.allclose(walk.contexts(), expected[:, d], rtol=1e-9, atol=1e-9)
        walk.append(x[:, d])


@cases
def test_a_frame_depends_on_earlier_values_alone(case: dict[str, Any]) -> None:
    model = framed(case)
    x = examples(1, model.config.dimensions)
    for place in (-2, -1):

        def frame(x: Tensor, place: int = place) -> Tensor:
            return model.contexts(x)[0, :, place]

        jacobian: Any = torch.autograd.functional.jacobian(frame, x)
        assert torch.equal(jacobian[:, 0].triu(), torch.zeros_like(jacobian[:, 0]))
        assert jacobian.any()


@cases
def test_weights_are_counted_without_building_the_model(case: dict[str, Any]) -> None:
    model = framed(case)
    assert parameter_count(model.config) == sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_low_precision_leaves_locations_precise() -> None:
    model = framed(CASES[0])
    x = 1000 + examples(4, 5)
    exact = model.contexts(x)[..., -2]
    model.low_precision = True
    spread = model.contexts(x)[..., -1].exp()
    assert ((model.contexts(x)[..., -2] - exact).abs() < 0.1 * spread).all()


def test_predictions_are_the_conditional_means_of_a_gaussian() -> None:
    mean, weights, deviation, _ = linear_prediction(examples(40_000, 4), 0.1)
    # Each given the two before, had these no noise; noise of 0.1 changes little.
    assert torch.allclose(weights[2], torch.tensor([0.5, 0.5, 0, 0]).double(), atol=0.1)
    errors = examples(10_000, 4, seed=1) - mean
    errors = errors - errors @ weights.T
    assert torch.equal(weights.triu(), torch.zeros_like(weights))
    assert torch.allclose(errors.square().mean(0) + 0.01, deviation.square(), rtol=0.1)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_few_examples_predict_no_worse_than_their_mean(n: int) -> None:
    mean, weights, deviation, _ = linear_prediction(examples(n, 20), 0.1)
    errors = examples(1000, 20, seed=1) - mean
    spread = errors.std(0)
    left = (errors - errors @ weights.T).std(0)
    assert left.mean() < 1.1 * spread.mean()
    assert (deviation > 0).all()


def test_constant_variables_are_predicted() -> None:
    x = examples(50, 4)
    x[:, 2] = 7.0
    mean, weights, deviation, _ = linear_prediction(x, 0.0)
    assert torch.cat([mean, weights.flatten(), deviation]).isfinite().all()
    assert deviation.min() > 0
