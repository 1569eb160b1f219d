"""Incremental contexts on a GPU, where recurring work is captured as CUDA graphs."""

from __future__ import annotations

import pytest
import torch

from tests.models.images import Case, in_one_pass, one_by_one

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]

# CUDA graphs are captured from the second row of a kind on and replayed from the third.
CASES = [
    Case("pixelcnn", (1, 16, 8), blocks=2),
    Case("pixelcnn", (3, 16, 8)),
    Case("pixelcnn", (3, 16, 8), site=3),
]
each = pytest.mark.parametrize("case", CASES, ids=str)


@each
def test_contexts_one_by_one_equal_the_full_pass(case: Case) -> None:
    network, x = case.network().cuda(), case.inputs(4).cuda()
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-10, atol=1e-10)


@each
def test_in_single_precision_contexts_are_as_close(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    network, x = case.network().float().cuda(), case.inputs(4).float().cuda()
    expected = in_one_pass(network, x)
    scale = expected.abs().amax((0, 2), keepdim=True)
    assert ((one_by_one(network, x) - expected).abs() <= 1e-5 * scale).all()


@each
def test_every_recurring_piece_of_work_is_a_graph(case: Case) -> None:
    network, x = case.network().cuda(), case.inputs(4).cuda()
    state = network.incremental(torch.empty(4, 0))
    for column in x.T:
        state.append(column)
    graphs = state.graphs
    assert graphs is not None
    assert graphs.works
    # The first row alone begins with nothing above it.
    unique = {key for key in graphs.graphs if key[0] == "row" and key[1]}
    assert {key for key, graph in graphs.graphs.items() if graph is None} == unique


@each
def test_evaluations_with_graphs_do_not_disturb_each_other(case: Case) -> None:
    network = case.network().cuda()
    both = (case.inputs(3, seed=3).cuda(), case.inputs(3, seed=4).cuda())
    expected = [in_one_pass(network, x) for x in both]
    states = [network.incremental(torch.empty(3, 0)) for _ in both]
    for d in range(both[0].shape[1]):
        for x, state, contexts in zip(both, states, expected, strict=True):
            assert torch.allclose(state.contexts(), contexts[:, d], rtol=1e-10, atol=1e-10)
            state.append(x[:, d])


@each
def test_contexts_equal_those_of_the_cpu(case: Case) -> None:
    network, x = case.network(), case.inputs(4)
    expected = in_one_pass(network, x)
    assert torch.allclose(network.cuda()(x.cuda()).cpu(), expected, rtol=1e-10, atol=1e-10)


def test_the_transformers_contexts_one_by_one_equal_the_full_pass() -> None:
    """Over enough places that graphs of several reaches are captured and replayed."""
    from arcsm_cli.models.transformer import Transformer

    torch.manual_seed(0)
    network = Transformer((1, 12, 12), 3, layers=2, heads=2, units=16).double().eval().cuda()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    x = torch.randn(4, 144, dtype=torch.float64).cuda()
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-9, atol=1e-9)
