"""Contexts one value after another are those of one pass, for every context network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arcsm_cli.models import cuda_graphs
from arcsm_cli.models.conditional import ConditionalModel
from tests.models.images import (
    FILTERS,
    Case,
    Make,
    case_inputs,
    every,
    few,
    in_one_pass,
    noisy,
    one_by_one,
)

# One value after another


@every
@pytest.mark.parametrize("batch", [1, 4])
def test_one_dimension_after_another_gives_the_same_contexts(case: Case, batch: int) -> None:
    network, x = case.network(), case.inputs(batch)
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-10, atol=1e-10)


@few
def test_larger_images_have_the_same_contexts_one_by_one(case: Case) -> None:
    case = case._replace(shape=(case.shape[0], 8, 12))
    network, x = case.network(), case.inputs(2)
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-10, atol=1e-10)


@every
def test_in_single_precision_contexts_one_by_one_are_as_close(case: Case) -> None:
    network, x = case.network().float(), case.inputs(3).float()
    expected = in_one_pass(network, x)
    scale = expected.abs().amax((0, 2), keepdim=True)
    assert ((one_by_one(network, x) - expected).abs() <= 1e-5 * scale).all()


@every
def test_contexts_can_be_asked_for_twice(case: Case) -> None:
    network, x = case.network(), case.inputs(2)
    state = network.incremental(torch.empty(2, 0))
    for column in x.T:
        assert torch.equal(state.contexts(), state.contexts())
        state.append(column)


@every
def test_contexts_need_not_be_asked_for(case: Case) -> None:
    network, x = case.network(), case.inputs(2)
    expected, state = in_one_pass(network, x), network.incremental(torch.empty(2, 0))
    for d, column in enumerate(x.T):
        if d % 5 == 4:
            assert torch.allclose(state.contexts(), expected[:, d], rtol=1e-10, atol=1e-10)
        state.append(column)


@every
def test_contexts_handed_out_stay_as_they_are(case: Case) -> None:
    network, x = case.network(), case.inputs(2)
    state, kept, copies = network.incremental(torch.empty(2, 0)), [], []
    for column in x.T:
        kept.append(state.contexts())
        copies.append(kept[-1].clone())
        state.append(column)
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@every
def test_evaluations_of_one_network_do_not_disturb_each_other(case: Case) -> None:
    network, both = case.network(), (case.inputs(2, seed=3), case.inputs(2, seed=4))
    expected = [in_one_pass(network, x) for x in both]
    states = [network.incremental(torch.empty(2, 0)) for _ in both]
    for d in range(both[0].shape[1]):
        for x, state, contexts in zip(both, states, expected, strict=True):
            assert torch.allclose(state.contexts(), contexts[:, d], rtol=1e-10, atol=1e-10)
            state.append(x[:, d])


@every
def test_examples_of_a_batch_do_not_see_each_other(case: Case) -> None:
    network, x = case.network(), case.inputs(3)
    alone = torch.cat([one_by_one(network, row[None]) for row in x])
    assert torch.allclose(one_by_one(network, x), alone, rtol=1e-10, atol=1e-10)


@every
def test_selected_rows_go_on_as_their_own_examples(case: Case) -> None:
    network, x = case.network(), case.inputs(4)
    state, generator = network.incremental(torch.empty(4, 0)), torch.Generator().manual_seed(2)
    for d in range(x.shape[1]):
        rows = torch.randint(4, (4,), generator=generator)
        state.select(rows)
        # What row i has seen from now on is what row rows[i] saw before.
        x[:, :d] = x[rows, :d]
        if d % 5 == 4 or d == x.shape[1] - 1:
            expected = in_one_pass(network, x)[:, d]
            assert torch.allclose(state.contexts(), expected, rtol=1e-10, atol=1e-10)
        state.append(x[:, d])


@pytest.mark.parametrize("order", ["raster", "reversed"])
@pytest.mark.parametrize("shape", [(1, 8, 4), (3, 4, 4)], ids=str)
def test_scores_of_a_walk_equal_those_of_the_full_pass(
    random_model: Make, order: str, shape: tuple[int, int, int]
) -> None:
    model = noisy(random_model(shape=shape, context="pixelcnn", order=order, filters=FILTERS))
    x, sigma = case_inputs(model, 3), 0.3
    with torch.no_grad():
        expected = model.score(x, model.contexts(x), x.new_tensor(sigma))
        walk = ConditionalModel(model).walk(torch.empty(len(x), 0))
        for d, column in enumerate(x.T):
            s = walk.conditionals().at(sigma)(column)
            assert torch.allclose(s, expected[:, d], rtol=1e-10, atol=1e-10)
            walk.append(column)


def test_the_reversed_order_reads_the_turned_image(random_model: Make) -> None:
    settings = {"shape": (3, 8, 4), "context": "pixelcnn", "filters": FILTERS}
    raster, backwards = (noisy(random_model(order=o, **settings)) for o in ("raster", "reversed"))
    image = torch.rand(2, 3, 8, 4, dtype=torch.float64)
    one = raster.contexts(raster.sort(image.flip(2, 3)))
    assert torch.equal(backwards.contexts(backwards.sort(image)), one)


# Graphs


class Recording:
    """What `torch.cuda.CUDAGraph` does, on the CPU: the operations on the tensors as they were.

    Tensors made on the way are overwritten after each run, as a pool shared by graphs may.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        recording = self

        class Recorder(TorchDispatchMode):
            def __torch_dispatch__(
                self, func: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                out = func(*args, **(kwargs or {}))
                recording.calls.append((func, args, kwargs or {}, out))
                return out

        with Recorder():
            work()
        self.done = True  # the work was not only recorded, but done
        self._forget()

    def replay(self) -> None:
        if self.done:
            self.done = False
            return
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(out), strict=True):
                if new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():
                    old.copy_(new)
        self._forget()

    def _forget(self) -> None:
        """Overwrite what was made on the way."""
        given: set[int] = set()
        made: dict[int, Tensor] = {}
        for _, args, kwargs, out in self.calls:
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor):
                    at = tensor.untyped_storage().data_ptr()
                    if at not in made:
                        given.add(at)
            for tensor in tree_leaves(out):
                at = tensor.untyped_storage().data_ptr()
                if at not in given:
                    made[at] = tensor
        for tensor in made.values():
            tensor.fill_(float("nan"))


class RecordedGraphs(cuda_graphs.CudaGraphs):
    """`CudaGraphs` with recordings in place of CUDA graphs."""

    def __init__(self) -> None:
        self.graphs: dict[Any, Any] = {}
        self.works, self.replays = True, 0

    def run(self, key: tuple[Any, ...], work: Callable[[], None]) -> None:
        self.replays += isinstance(self.graphs.get(key), Recording)
        super().run(key, work)

    def _capture(self, work: Callable[[], None]) -> Any:
        return Recording(work)


@pytest.mark.parametrize(
    "case",
    [Case("pixelcnn", (1, 16, 4)), Case("pixelcnn", (3, 16, 8), site=3)],
    ids=str,
)
def test_pieces_of_work_recorded_once_serve_every_later_row(case: Case) -> None:
    network, x = case.network(), case.inputs(2)
    expected = in_one_pass(network, x)
    state = network.incremental(torch.empty(2, 0))
    state.graphs = graphs = RecordedGraphs()
    with torch.no_grad():
        for d, column in enumerate(x.T):
            assert torch.allclose(state.contexts(), expected[:, d], rtol=1e-10, atol=1e-10)
            state.append(column)
    assert graphs.replays > len(x.T) // case.shape[0] // 4
