"""Likelihoods of some variables given any others."""

import math

import pytest
import torch

from arcsm_cli.data.batch import Batch, nothing_given
from arcsm_cli.evaluation.any_order import Question, part_log_likelihood
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.any_order import in_turn
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import make_model

A = torch.tensor([True, False, False, True, False])
B = torch.tensor([False, False, True, False, False])
NOTHING = torch.zeros(5, dtype=torch.bool)


@pytest.fixture(params=["scores", "densities"])
def model(request: pytest.FixtureRequest) -> AutoregressiveModel:
    own = {"context_width": 3, "score_hidden": (4,), "frames": "contexts", "levels": (1.0, 0.1)}
    if request.param == "densities":
        own = {"likelihood": "gaussian", "annealing": "none", "levels": (0.1,), "context_width": 2}
    network = {"context": "transformer", "layers": 1, "heads": 2, "width": 8, "order": "any"}
    torch.manual_seed(0)
    model = make_model(ModelConfig((5,), **network, **own))
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return model


@pytest.fixture
def batch() -> Batch:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    return Batch(x, nothing_given(6, x))


def test_parts_multiply_to_the_whole(model: AutoregressiveModel, batch: Batch) -> None:
    rest = ~(A | B)
    parts = [(B, NOTHING), (A, B), (rest, A | B)]
    # The order of all: what is given comes before what is asked for, in each part as it stands.
    whole = batch._replace(order=in_turn(B, A, rest).expand(6, -1))
    expected = log_likelihood(model, whole).double()
    found = [part_log_likelihood(model, batch, Question(*part)) for part in parts[:2]]
    assert torch.allclose(found[0], expected[:, B].sum(1), atol=1e-4)
    assert torch.allclose(found[1], expected[:, A].sum(1), atol=1e-4)


def test_neither_what_is_not_asked_for_nor_its_values_matter(
    model: AutoregressiveModel, batch: Batch
) -> None:
    other = batch.x.clone()
    other[:, ~(A | B)] += 1
    found = [
        part_log_likelihood(model, b, Question(A, B, 2)) for b in (batch, batch.holding(other))
    ]
    assert torch.allclose(*found, atol=1e-5)


def test_orders_are_averaged_as_probabilities(model: AutoregressiveModel, batch: Batch) -> None:
    question = Question(A | B, NOTHING, orders=3, seed=4)
    each = [
        log_likelihood(model, batch._replace(order=order.expand(6, -1))).double()[:, A | B].sum(1)
        for order in question.sequences()
    ]
    assert not torch.allclose(each[0], each[1])
    expected = torch.stack(each).exp().mean(0).log()
    assert torch.allclose(part_log_likelihood(model, batch, question), expected, atol=1e-5)
    assert expected.mean() >= sum(e.mean() for e in each) / 3 - math.ulp(1.0)
