"""PixelCNN++ contexts: what may depend on what, against a plain network, and the ways to evaluate.

What holds for every context network is asked of MADE as well.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arcsm_cli.models import cuda_graphs
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import ContextNetwork
from arcsm_cli.models.made import MADE
from arcsm_cli.models.pixelcnn import PixelCNN
from arcsm_cli.models.pixelcnn_layers import WeightNormalized, concat_elu, gated_sum
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import perturb
from arcsm_cli.randomness import Draws

Make = Callable[..., Any]
WIDTH, FILTERS = 2, 3


class Case(NamedTuple):
    """A context network of images: its kind and sizes."""

    context: str
    shape: tuple[int, int, int]
    site: int = 1
    blocks: int = 1

    def network(self, *, seed: int = 0, dropout: float = 0.0) -> Any:
        """Make it with weights and biases of order 1, also where a mask hides them."""
        torch.manual_seed(seed)
        network: ContextNetwork
        if self.context == "made":
            channels, height, width = self.shape
            network = MADE(channels * height * width, WIDTH, (50, 50), residual=True)
        else:
            network = PixelCNN(self.shape, WIDTH, FILTERS, self.blocks, dropout, self.site)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        return network.double().eval()

    def inputs(self, batch: int, seed: int = 1) -> Tensor:
        """Return sorted examples (B, D)."""
        channels, height, width = self.shape
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, channels * height * width)
        return torch.randn(shape, generator=generator, dtype=torch.float64)


MADES = [Case("made", shape) for shape in [(1, 4, 4), (1, 3, 5), (3, 2, 2), (3, 4, 4)]]
PIXELCNNS = [
    Case("pixelcnn", (1, 4, 4)),
    Case("pixelcnn", (1, 8, 4), blocks=2),
    Case("pixelcnn", (1, 4, 12), blocks=3),
    Case("pixelcnn", (3, 4, 4)),
    Case("pixelcnn", (3, 4, 8), blocks=2),
    Case("pixelcnn", (2, 8, 4)),
    Case("pixelcnn", (3, 4, 4), site=3, blocks=2),
    Case("pixelcnn", (3, 8, 8), site=3),
]
# One network of each kind of site.
FEW = [PIXELCNNS[1], PIXELCNNS[4], PIXELCNNS[6]]


def cases(networks: list[Case]) -> pytest.MarkDecorator:
    """Parametrise a test over networks; most of them run with the slow tests."""
    fast = (MADES[1], MADES[3], *FEW)
    given = [c if c in fast else pytest.param(c, marks=pytest.mark.slow) for c in networks]
    return pytest.mark.parametrize("case", given, ids=str)


every = cases([*MADES, *PIXELCNNS])
convolutional = cases(PIXELCNNS)
together = cases([c for c in PIXELCNNS if c.site > 1])
few = cases(FEW)


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return df/dx, (*outputs, D), at x (D,) for f of (B, D), which treats examples alike.

    One example for each output, and of each the gradient of that output alone.
    """
    with torch.no_grad():
        shape = f(x[None]).shape[1:]
    rows = x.expand(shape.numel(), -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(rows).flatten(1).diagonal().sum(), rows)
    return gradient.view(*shape, -1)


def one_by_one(network: ContextNetwork, x: Tensor) -> Tensor:
    """Return the contexts of every dimension's site in turn, (B, D, C)."""
    state = network.incremental(torch.empty(len(x), 0))
    contexts = []
    for column in x.T:
        contexts.append(state.contexts())
        state.append(column)
    return torch.stack(contexts, 1)


@torch.no_grad()
def in_one_pass(network: ContextNetwork, x: Tensor) -> Tensor:
    """Return the same by the full pass."""
    contexts: Tensor = network(x).repeat_interleave(network.site, 1)
    return contexts


# causality


@every
def test_contexts_do_not_depend_on_their_own_or_later_sites(case: Case) -> None:
    gradient = jacobian(case.network(), case.inputs(1)[0])
    for site, of_site in enumerate(gradient):
        later = of_site[:, site * case.site :]
        assert torch.equal(later, torch.zeros_like(later))


@every
@torch.no_grad()
def test_contexts_stay_when_later_inputs_change(case: Case) -> None:
    network, (x, other) = case.network(), case.inputs(2)
    # In row d all inputs from d on are others.
    rows = torch.where(torch.ones(len(x), len(x), dtype=torch.bool).tril(-1), x, other)
    of_rows, of_x = in_one_pass(network, rows), in_one_pass(network, x[None])[0]
    for d in range(0, len(x), case.site):
        assert (of_rows[d, d] - of_x[d]).abs().max() <= 1e-12 * of_x.abs().max()


@every
def test_the_first_context_is_a_constant(case: Case) -> None:
    first = case.network()(case.inputs(5))[:, 0]
    assert torch.allclose(first, first[:1].expand_as(first), rtol=1e-12, atol=1e-12)


@every
def test_contexts_depend_on_the_site_before_in_their_row(case: Case) -> None:
    gradient = jacobian(case.network(), case.inputs(1)[0])
    row = case.shape[0] * case.shape[2] // case.site
    for site in range(len(gradient)):
        if site % row > 0:
            before = slice((site - 1) * case.site, site * case.site)
            assert (gradient[site, :, before] != 0).all()


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)], ids=str)
def test_scores_do_not_depend_on_later_values(
    random_model: Make, context: str, shape: tuple[int, int, int]
) -> None:
    model = noisy(random_model(shape=shape, context=context, filters=FILTERS, resnet_blocks=1))
    sigma = torch.tensor(0.3).double()
    x = case_inputs(model, 1)[0]
    gradient = jacobian(lambda v: model.score(v, model.contexts(v), sigma), x)
    assert torch.equal(gradient.triu(1), torch.zeros_like(gradient))
    assert (gradient.diagonal() != 0).all()


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize("order", ["raster", "reversed"])
def test_the_contexts_of_a_pixel_see_pixels_before_it_and_its_earlier_channels(
    random_model: Make, context: str, order: str
) -> None:
    shape = (3, 4, 4)
    model = noisy(
        random_model(shape=shape, context=context, order=order, filters=FILTERS, hidden=(50,))
    )
    image = torch.rand(shape, dtype=torch.float64)

    def contexts(flat: Tensor) -> Tensor:
        return model.contexts(model.sort(flat.view(-1, *shape)))

    gradient = jacobian(contexts, image.flatten()).view(16, 3, -1, 3, 16).abs().sum(2)
    for pixel in range(16):
        for channel in range(3):
            seen = gradient[pixel, channel] != 0  # (channels, pixels) of the image as it lies
            at = pixel if order == "raster" else 15 - pixel
            before = slice(0, at) if order == "raster" else slice(at + 1, 16)
            after = slice(at + 1, 16) if order == "raster" else slice(0, at)
            assert not seen[:, after].any()
            assert seen[:, at].tolist() == [c < channel for c in range(3)]
            assert seen[:, before].all()


# dropout


@few
def test_dropout_keeps_causality(case: Case) -> None:
    network = case.network(dropout=0.5).train()
    gradient = jacobian(network, case.inputs(1)[0])
    for site, of_site in enumerate(gradient):
        later = of_site[:, site * case.site :]
        assert torch.equal(later, torch.zeros_like(later))


@few
@torch.no_grad()
def test_dropout_changes_contexts_in_training(case: Case) -> None:
    network, x = case.network(dropout=0.5).train(), case.inputs(2)
    assert not torch.equal(network(x), network(x))


@few
@torch.no_grad()
def test_dropout_does_nothing_out_of_training(case: Case) -> None:
    x = case.inputs(2)
    assert torch.equal(case.network(dropout=0.5)(x), case.network(dropout=0.0)(x))


@few
@torch.no_grad()
def test_no_dropout_makes_training_the_same(case: Case) -> None:
    network, x = case.network(), case.inputs(2)
    assert torch.equal(network(x), network.train()(x))


@few
def test_walking_drops_nothing(case: Case) -> None:
    network, x = case.network(dropout=0.5), case.inputs(2)
    assert torch.equal(one_by_one(network, x), one_by_one(network.train(), x))


# against a network written plainly


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    """The plain network of the benchmarks."""
    path = Path(__file__).parents[2] / "bench" / "plain_pixelcnn.py"
    spec = importlib.util.spec_from_file_location("plain_pixelcnn", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_network(plain: ModuleType, case: Case, seed: int = 7) -> Any:
    """A plain network of the same sizes with weights of order 1 of its own."""
    torch.manual_seed(seed)
    outputs = WIDTH * case.shape[0] // case.site
    network = plain.PlainPixelCNN(case.shape[0], FILTERS, case.blocks, outputs).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def plain_contexts(network: nn.Module, case: Case, x: Tensor) -> Tensor:
    """Return its outputs for sorted examples, as contexts (B, sites, C)."""
    channels, height, width = case.shape
    image = x.view(-1, height, width, channels).permute(0, 3, 1, 2)
    contexts: Tensor = network(image).permute(0, 2, 3, 1).reshape(len(x), -1, WIDTH)
    return contexts


def _same(weight: Tensor) -> Tensor:
    return weight


def _swapped(weight: Tensor) -> Tensor:
    """Reorder the inputs ELU of (a, -a, b, -b) to (a, b, -a, -b), or back."""
    parts = weight.unflatten(1, (2, 2, -1)).transpose(1, 2)
    return parts.flatten(1, 3)


Pair = tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]


def _of_layer(
    ours: WeightNormalized, theirs: nn.Module, arrange: Callable[[Tensor], Tensor] = _same
) -> Iterator[Pair]:
    conv: Any = next(m for m in theirs.modules() if is_parametrized(m))
    weight = conv.parametrizations.weight
    yield ours.gain, weight.original0, _same
    yield ours.direction, weight.original1, arrange
    yield ours.bias, conv.bias, _same


def _of_blocks(ours: Any, theirs: Any) -> Iterator[Pair]:
    for a, b in zip(ours, theirs, strict=True):
        yield from _of_layer(a.first, b.conv_in)
        yield from _of_layer(a.second, b.conv_out)
        if a.skip is not None:
            two = a.skip.direction.shape[1] == 4 * FILTERS
            yield from _of_layer(a.skip, b.nin, _swapped if two else _same)


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Return which weights stand for which, and how ours are arranged to be theirs."""
    yield from _of_layer(ours.first_u, theirs.u_first)
    yield from _of_layer(ours.first_above, theirs.ul_first_above)
    yield from _of_layer(ours.first_left, theirs.ul_first_left)
    yield from _of_layer(ours.output, theirs.last)
    # The plain network counts the stages of the way up from the lowest resolution.
    for level, (down, up) in enumerate(zip(theirs.down, reversed(theirs.up), strict=True)):
        yield from _of_blocks(ours.down_u[level], down.u)
        yield from _of_blocks(ours.down_ul[level], down.ul)
        yield from _of_blocks(ours.up_u[level], up.u)
        yield from _of_blocks(ours.up_ul[level], up.ul)
    for level in range(2):
        yield from _of_layer(ours.halve_u[level], theirs.u_smaller[level])
        yield from _of_layer(ours.halve_ul[level], theirs.ul_smaller[level])
        yield from _of_layer(ours.double_u[level], theirs.u_larger[1 - level])
        yield from _of_layer(ours.double_ul[level], theirs.ul_larger[1 - level])


@torch.no_grad()
def twins(plain: ModuleType, case: Case) -> tuple[Any, Any]:
    """Two networks of equal weights: ours, and the plain one."""
    ours, theirs = case.network(), plain_network(plain, case)
    if ours.earlier is not None:
        ours.earlier.zero_()
    for a, b, arrange in pairs(ours, theirs):
        b.copy_(arrange(a).view_as(b))
    return ours, theirs


# The plain network has one context a pixel, so that its sub-pixels share what came before.
comparable = cases([c for c in PIXELCNNS if c.shape[0] != 2])


@comparable
def test_every_weight_has_one_counterpart(plain: ModuleType, case: Case) -> None:
    ours, theirs = case.network(), plain_network(plain, case)
    both = list(pairs(ours, theirs))
    assert len({id(a) for a, _, _ in both}) == len(both)
    assert {id(a) for a, _, _ in both} == {id(p) for p in ours.parameters()} - {id(ours.earlier)}
    assert {id(b) for _, b, _ in both} == {id(p) for p in theirs.parameters()}


@comparable
@torch.no_grad()
def test_contexts_equal_those_of_the_plain_network(plain: ModuleType, case: Case) -> None:
    (ours, theirs), x = twins(plain, case), case.inputs(3)
    expected = plain_contexts(theirs, case, x)
    assert (ours(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


def gradients(contexts: Tensor, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of a weighted sum of the contexts."""
    weight = torch.linspace(-1, 1, contexts.numel(), dtype=torch.float64).view_as(contexts)
    return torch.autograd.grad((weight * contexts).sum(), wanted)


@comparable
def test_gradients_in_x_equal_those_of_the_plain_network(plain: ModuleType, case: Case) -> None:
    (ours, theirs), x = twins(plain, case), case.inputs(3).requires_grad_()
    (gradient,) = gradients(ours(x), [x])
    (expected,) = gradients(plain_contexts(theirs, case, x), [x])
    assert (gradient - expected).abs().max() <= 1e-12 * expected.abs().max()


@comparable
def test_gradients_of_all_weights_equal_those_of_the_plain_network(
    plain: ModuleType, case: Case
) -> None:
    (ours, theirs), x = twins(plain, case), case.inputs(3)
    both = list(pairs(ours, theirs))
    found = gradients(ours(x), [a for a, _, _ in both])
    expected = gradients(plain_contexts(theirs, case, x), [b for _, b, _ in both])
    for (_, _, arrange), a, b in zip(both, found, expected, strict=True):
        scale = max(1.0, float(b.abs().max()))
        assert torch.allclose(arrange(a).view_as(b), b, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize(
    "case",
    [
        Case("pixelcnn", (1, 8, 8)),
        Case("pixelcnn", (1, 4, 16)),
        Case("pixelcnn", (1, 8, 8), blocks=2),
        Case("pixelcnn", (3, 4, 12)),
        Case("pixelcnn", (3, 8, 8), site=3),
    ],
    ids=str,
)
def test_contexts_reach_as_far_back_as_the_plain_network(plain: ModuleType, case: Case) -> None:
    ours, theirs, x = case.network(), plain_network(plain, case), case.inputs(1)[0]
    channels, sites = case.shape[0], case.shape[0] // case.site
    seen = jacobian(ours, x).unflatten(0, (-1, sites)).unflatten(-1, (-1, channels)) != 0
    expected = jacobian(lambda v: plain_contexts(theirs, case, v), x)
    far = expected.unflatten(0, (-1, sites)).unflatten(-1, (-1, channels)) != 0
    if sites > 1:  # sub-pixels also see those of their own pixel
        pixels = torch.arange(len(far))
        far[pixels, :, :, pixels] |= torch.ones(channels, channels).bool().tril(-1)[None, :, None]
    assert torch.equal(seen, far)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 4), (1, 4, 8)], ids=str)
def test_contexts_of_small_images_depend_on_all_earlier_values(
    shape: tuple[int, int, int],
) -> None:
    case = Case("pixelcnn", shape, blocks=2)
    seen = (jacobian(case.network(), case.inputs(1)[0]) != 0).all(1)
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


@pytest.mark.parametrize("channels", [2, 3])
def test_sub_pixels_add_a_linear_function_of_the_pixels_earlier_ones(channels: int) -> None:
    case = Case("pixelcnn", (channels, 4, 4))
    network, x = case.network(), case.inputs(2)
    full = network(x)
    weights = network.earlier.detach().clone()
    with torch.no_grad():
        network.earlier.zero_()
    added = (full - network(x)).unflatten(1, (-1, channels))
    pixels = x.unflatten(1, (-1, channels))
    for k in range(channels):
        expected = sum(
            (pixels[..., j, None] * weights[k, j] for j in range(k)), torch.zeros(()).double()
        )
        assert torch.allclose(added[:, :, k], expected + 0 * added[:, :, k], atol=1e-12)


# one value after another


@every
@pytest.mark.parametrize("batch", [1, 4])
def test_one_dimension_after_another_gives_the_same_contexts(case: Case, batch: int) -> None:
    network, x = case.network(), case.inputs(batch)
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-10, atol=1e-10)


@few
def test_larger_images_have_the_same_contexts_one_by_one(case: Case) -> None:
    case = case._replace(shape=(case.shape[0], 12, 16))
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
        expected = in_one_pass(network, x)[:, d]
        assert torch.allclose(state.contexts(), expected, rtol=1e-10, atol=1e-10)
        state.append(x[:, d])


@every
def test_walking_builds_no_graph(case: Case) -> None:
    network, x = case.network(), case.inputs(1)
    assert not one_by_one(network, x).requires_grad


@few
def test_the_last_value_may_be_appended(case: Case) -> None:
    network, x = case.network(), case.inputs(1)
    state = network.incremental(torch.empty(1, 0))
    for column in x.T:
        state.append(column)


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


# graphs


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


# CUDA graphs are captured from the second row of a kind on and replayed from the third.
GPU_CASES = [
    Case("pixelcnn", (1, 16, 8), blocks=2),
    Case("pixelcnn", (3, 16, 8)),
    Case("pixelcnn", (3, 16, 8), site=3),
]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
gpu_cases = pytest.mark.parametrize("case", GPU_CASES, ids=str)


@on_gpu
@gpu_cases
def test_on_a_gpu_contexts_one_by_one_equal_the_full_pass(case: Case) -> None:
    network, x = case.network().cuda(), case.inputs(4).cuda()
    expected = in_one_pass(network, x)
    assert torch.allclose(one_by_one(network, x), expected, rtol=1e-10, atol=1e-10)


@on_gpu
@gpu_cases
def test_on_a_gpu_in_single_precision_contexts_are_as_close(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    network, x = case.network().float().cuda(), case.inputs(4).float().cuda()
    expected = in_one_pass(network, x)
    scale = expected.abs().amax((0, 2), keepdim=True)
    assert ((one_by_one(network, x) - expected).abs() <= 1e-5 * scale).all()


@on_gpu
@gpu_cases
def test_on_a_gpu_every_recurring_piece_of_work_is_a_graph(case: Case) -> None:
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


@on_gpu
@gpu_cases
def test_on_a_gpu_evaluations_with_graphs_do_not_disturb_each_other(case: Case) -> None:
    network = case.network().cuda()
    both = (case.inputs(3, seed=3).cuda(), case.inputs(3, seed=4).cuda())
    expected = [in_one_pass(network, x) for x in both]
    states = [network.incremental(torch.empty(3, 0)) for _ in both]
    for d in range(both[0].shape[1]):
        for x, state, contexts in zip(both, states, expected, strict=True):
            assert torch.allclose(state.contexts(), contexts[:, d], rtol=1e-10, atol=1e-10)
            state.append(x[:, d])


@on_gpu
def test_on_a_gpu_contexts_equal_those_of_the_cpu() -> None:
    case = GPU_CASES[0]
    network, x = case.network(), case.inputs(4)
    expected = in_one_pass(network, x)
    assert torch.allclose(network.cuda()(x.cuda()).cpu(), expected, rtol=1e-10, atol=1e-10)


# layers

PADDINGS = [(0, 0, 0), (1, 1, 1), (1, 0, 1), (0, 2, 3)]
paddings = pytest.mark.parametrize("padding", PADDINGS, ids=str)


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def plain_elu(x: Tensor, padding: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
    return functional.pad(functional.elu(torch.cat([x, -x], 1)), (*padding, 0))


@paddings
def test_concat_elu_is_the_elu_of_both_signs_amid_zeros(padding: tuple[int, int, int]) -> None:
    x = images(2, 3, 4, 5)
    assert torch.allclose(concat_elu(x, padding), plain_elu(x, padding), rtol=1e-14, atol=1e-14)


@pytest.fixture
def nothing_is_zero_by_chance() -> Iterator[None]:
    """Fills memory that nobody has written to with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("nothing_is_zero_by_chance")
@paddings
def test_concat_elu_is_exactly_zero_around(padding: tuple[int, int, int]) -> None:
    left, right, top = padding
    y = concat_elu(images(2, 3, 4, 5), padding)
    assert (y[:, :, :top] == 0).all()
    assert (y[..., :left] == 0).all()
    assert (y[..., y.shape[3] - right :] == 0).all()


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-30, -1e-8, 1e4, -1e4, 1e38, float("inf")])
def test_concat_elu_of_extreme_values_is_the_plain_one(value: float) -> None:
    x = torch.full((1, 1, 1, 1), value)
    # Of values near 0 one rounding of 1 is lost.
    assert torch.allclose(concat_elu(x), plain_elu(x), rtol=0, atol=torch.finfo(x.dtype).eps)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-30, 1e4, -1e4])
def test_concat_elu_has_the_plain_derivative_at_extreme_values(value: float) -> None:
    x = torch.full((1, 1, 1, 1), value, requires_grad=True)
    weight = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    (found,) = torch.autograd.grad((weight * concat_elu(x)).sum(), x)
    (expected,) = torch.autograd.grad((weight * plain_elu(x)).sum(), x)
    assert torch.equal(found, expected)


@paddings
def test_concat_elu_passes_the_gradient_check(padding: tuple[int, int, int]) -> None:
    x = images(2, 2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: concat_elu(v, padding), (x,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_concat_elu_takes_either_layout(layout: torch.memory_format) -> None:
    x = images(2, 3, 4, 5)
    y = concat_elu(x.contiguous(memory_format=layout), (1, 1, 1))
    assert torch.equal(y, concat_elu(x, (1, 1, 1)))


def test_gated_sum_is_the_plain_formula() -> None:
    x, ab = images(2, 3, 4, 5), images(2, 6, 4, 5, seed=1)
    expected = x + ab[:, :3] * torch.sigmoid(ab[:, 3:])
    assert torch.allclose(gated_sum(x, ab), expected, rtol=1e-14, atol=1e-14)


def test_gated_sum_passes_the_gradient_check() -> None:
    x = images(2, 3, 2, 2).requires_grad_()
    ab = images(2, 6, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(gated_sum, (x, ab))


def test_gated_sum_keeps_the_streams_precision() -> None:
    x, ab = images(1, 2, 2, 2).float(), images(1, 4, 2, 2, seed=1).bfloat16()
    y = gated_sum(x, ab)
    assert y.dtype == torch.float32
    expected = x + ab[:, :2].float() * torch.sigmoid(ab[:, 2:].float())
    assert (y - expected).abs().max() < 0.02 * ab.abs().max()


@few
@torch.no_grad()
def test_a_compiler_sees_the_same_network(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = case.network(), case.inputs(2)
    expected = network(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert (network(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("transposed", [False, True])
def test_each_outputs_weights_have_the_norm_of_its_gain(transposed: bool) -> None:
    layer = WeightNormalized(3, 4, (2, 3), transposed=transposed).double()
    nn.init.normal_(layer.gain)
    nn.init.normal_(layer.direction)
    weight = layer.weight().transpose(0, 1) if transposed else layer.weight()
    assert torch.allclose(weight.flatten(1).norm(dim=1), layer.gain.abs(), rtol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_length_of_a_direction_does_not_matter(transposed: bool) -> None:
    layer = WeightNormalized(3, 4, (2, 3), transposed=transposed).double()
    before = layer.weight().detach()
    with torch.no_grad():
        layer.direction.mul_(7.0)
    assert torch.allclose(layer.weight(), before, rtol=1e-12)


@pytest.mark.usefixtures("nothing_is_zero_by_chance")
@few
def test_contexts_and_gradients_read_nothing_that_was_not_written(case: Case) -> None:
    network, x = case.network(), case.inputs(2).requires_grad_()
    contexts = network(x)
    assert contexts.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(contexts, [x, *network.parameters()]))
    assert one_by_one(network, x.detach()).isfinite().all()


def test_a_cropped_product_is_that_of_the_inner_part() -> None:
    layer = WeightNormalized(3, 4).double()
    nn.init.normal_(layer.bias)
    x = images(2, 3, 5, 6)
    inner = layer(x[:, :, 1:, 1:-1])
    assert torch.allclose(layer(x, (1, 1, 1)), inner, rtol=1e-12, atol=1e-12)


# initialisation


def fresh(shape: tuple[int, int, int] = (3, 8, 8), site: int = 1, blocks: int = 2) -> PixelCNN:
    torch.manual_seed(0)
    return PixelCNN(shape, WIDTH, filters=5, blocks=blocks, dropout=0.5, site=site)


def batch_for(network: PixelCNN, count: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, network.dimensions, generator=generator) * 2 - 1


def outputs_of(network: PixelCNN, run: Callable[[], Any]) -> dict[str, tuple[Tensor, float]]:
    """Run something and return what each layer last gave, with the deviation it is meant for."""
    found: dict[str, tuple[Tensor, float]] = {}

    def keep(name: str, layer: WeightNormalized) -> Callable[[Any, Any, Tensor], None]:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            found[name] = (output.detach(), layer.scale)

        return hook

    layers = {n: m for n, m in network.named_modules() if isinstance(m, WeightNormalized)}
    handles = [layer.register_forward_hook(keep(n, layer)) for n, layer in layers.items()]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return found


sites = pytest.mark.parametrize("site", [1, 3])


@sites
def test_initialisation_reaches_every_layer(site: int) -> None:
    network = fresh(site=site)
    found = outputs_of(network, lambda: network.initialise(batch_for(network)))
    layers = {n for n, m in network.named_modules() if isinstance(m, WeightNormalized)}
    assert found.keys() == layers


@sites
def test_initialised_layers_give_normalised_outputs(site: int) -> None:
    network = fresh(site=site)
    found = outputs_of(network, lambda: network.initialise(batch_for(network)))
    for output, scale in found.values():
        deviation, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-4
        assert (deviation / scale - 1).abs().max() < 1e-3


@sites
def test_outputs_stay_normalised_in_use(site: int) -> None:
    network, x = fresh(site=site).eval(), batch_for(fresh())
    network.initialise(x)
    for output, scale in outputs_of(network, lambda: network(x)).values():
        deviation, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-4
        assert (deviation / scale - 1).abs().max() < 1e-3


@sites
def test_initialising_again_with_the_same_examples_changes_nothing(site: int) -> None:
    network, x = fresh(site=site), batch_for(fresh())
    network.initialise(x)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network.initialise(x)
    for name, parameter in network.named_parameters():
        scale = max(1e-2, float(before[name].abs().max()))
        assert (parameter - before[name]).abs().max() < 1e-4 * scale


def test_initialisation_changes_gains_and_biases_alone() -> None:
    network = fresh()
    before = copy.deepcopy(network)
    network.initialise(batch_for(network))
    old = dict(before.named_parameters())
    for name, parameter in network.named_parameters():
        fitted = name.endswith(("gain", "bias"))
        assert torch.equal(parameter, old[name]) != fitted


def test_initialisation_is_deterministic() -> None:
    network = fresh()
    other = copy.deepcopy(network)
    for seed, net in enumerate((network, other)):
        torch.manual_seed(seed)
        net.initialise(batch_for(net))
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_initialisation_takes_no_random_numbers() -> None:
    network = fresh()
    state = torch.get_rng_state()
    network.initialise(batch_for(network))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_initialisation_leaves_the_mode(training: bool) -> None:
    network = fresh().train(training)
    network.initialise(batch_for(network))
    assert all(module.training == training for module in network.modules())


def test_a_failed_initialisation_leaves_the_network_usable() -> None:
    network = fresh().train()
    with pytest.raises(RuntimeError):
        network.initialise(torch.zeros(2, 7))
    assert network.training
    assert not any(m.initialising for m in network.modules() if isinstance(m, WeightNormalized))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)], ids=str)
def test_constant_images_initialise_to_finite_weights(
    shape: tuple[int, int, int], count: int, value: float
) -> None:
    network = fresh(shape, site=shape[0])
    network.initialise(torch.full((count, network.dimensions), value))
    assert all(p.isfinite().all() for p in network.parameters())
    assert network(batch_for(network)).isfinite().all()


@pytest.mark.parametrize(("context", "fitted"), [("made", False), ("pixelcnn", True)])
def test_models_tell_whether_there_was_anything_to_fit(
    random_model: Make, context: str, fitted: bool
) -> None:
    model = random_model(shape=(1, 4, 4), context=context, filters=FILTERS).float()
    before = copy.deepcopy(model.state_dict())
    assert model.initialise(torch.rand(4, 16)) is fitted
    same = all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert same is not fitted


# refusals


@given(st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_sizes_that_cannot_be_halved_twice_are_refused(height: int, width: int) -> None:
    config = ModelConfig(
        shape=(1, height, width), levels=(1.0, 0.1), context="pixelcnn", filters=1, resnet_blocks=1
    )
    if height % 4 == 0 and width % 4 == 0:
        assert config.problem() is None
        return
    assert "multiples of 4" in str(config.problem())
    with pytest.raises(ValueError, match="halved twice"):
        PixelCNN((1, height, width), width=1, filters=1, blocks=1)


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"filters": 0}, {"blocks": 0}, {"shape": (0, 4, 4)}, {"site": 2}]
)
def test_empty_sizes_and_parts_of_pixels_are_refused(change: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"shape": (3, 4, 4), "width": 2, "filters": 2, "blocks": 1}
    with pytest.raises(ValueError, match="at least 1"):
        PixelCNN(**(sizes | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": "random"}, "raster and reversed"),
        ({"shape": (16,)}, "1 or 3 channels"),
        ({"shape": (2, 4, 4)}, "1 or 3 channels"),
        ({"shape": (4, 4, 4)}, "1 or 3 channels"),
        ({"shape": (3, 4, 6)}, "multiples of 4"),
    ],
    ids=str,
)
def test_configurations_that_do_not_suit_pixels_are_refused(
    change: dict[str, Any], words: str
) -> None:
    sound: dict[str, Any] = {"shape": (3, 4, 4), "levels": (1.0, 0.1), "context": "pixelcnn"}
    assert ModelConfig(**sound).problem() is None
    assert words in str(ModelConfig(**(sound | change)).problem())


# reduced precision

low_models = pytest.mark.parametrize(
    "settings",
    [
        {"context": "made", "shape": (3, 4, 4)},
        {"context": "pixelcnn", "shape": (1, 8, 8)},
        {"context": "pixelcnn", "shape": (3, 8, 8)},
    ],
    ids=lambda settings: f"{settings['context']} {settings['shape']}",
)


def noisy(model: Any) -> Any:
    """Give the sub-pixels' weights, zero at first, values of their own."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("earlier"):
                parameter.normal_()
    return model


def case_inputs(model: AutoregressiveModel, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, model.config.dimensions)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def single(random_model: Make, **settings: Any) -> tuple[Any, Tensor]:
    """A model in float32, with initialised weights, and examples."""
    model = noisy(random_model(filters=8, resnet_blocks=2, dropout=0.0, **settings)).float()
    x = case_inputs(model, 8).float()
    model.initialise(x)
    return model, x


@low_models
@torch.no_grad()
def test_reduced_precision_moves_contexts_by_a_few_percent(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    exact = model.contexts(x)
    model.low_precision = True
    lowered = model.contexts(x)
    assert lowered.dtype == torch.float32
    assert 0 < (lowered - exact).abs().max() < 0.05 * exact.abs().max()


@low_models
def test_derivatives_are_exact_for_contexts_of_reduced_precision(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    model.low_precision = True
    c, sigma = model.contexts(x).detach(), torch.tensor(0.3)
    _, ds = model.score_and_derivative(x, c, sigma)
    value = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model.score(value, c, sigma).sum(), value)
    assert (ds - expected).abs().max() < 1e-5 * expected.abs().max()


@low_models
@torch.no_grad()
def test_scores_of_given_contexts_are_the_same_in_reduced_precision(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    c, sigma = model.contexts(x), torch.tensor(0.3)
    exact = model.score_and_derivative(x, c, sigma)
    model.low_precision = True
    lowered = model.score_and_derivative(x, c, sigma)
    assert all(torch.equal(a, b) for a, b in zip(exact, lowered, strict=True))


@low_models
def test_gradients_of_reduced_precision_point_the_same_way(
    random_model: Make, settings: dict[str, Any]
) -> None:
    model, x = single(random_model, **settings)
    batch = perturb(model, x, torch.Generator().manual_seed(0))
    weights = list(model.parameters())
    directions = []
    for low in (False, True):
        model.low_precision = low
        found = torch.autograd.grad(csm(model, batch, Draws(torch.Generator())), weights)
        assert all(g.dtype == torch.float32 for g in found)
        directions.append(torch.cat([g.flatten() for g in found]))
    exact, lowered = directions
    assert torch.cosine_similarity(exact, lowered, dim=0) > 0.99


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "logistic-mixture", "discretized-logistic-mixture"]
)
@torch.no_grad()
def test_densities_of_given_contexts_are_the_same_in_reduced_precision(
    random_model: Make, monkeypatch: pytest.MonkeyPatch, context: str, likelihood: str
) -> None:
    width = {"gaussian": 2, "logistic-mixture": 6}.get(likelihood)
    model, x = single(
        random_model,
        shape=(3, 4, 4),
        context=context,
        likelihood=likelihood,
        components=2,
        context_width=width or (20 if context == "pixelcnn" else 6),
        annealing="none",
        levels=(0.0,),
        data_shift=(0.5,),
        data_scale=(0.5,),
    )
    x = (x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    model.low_precision = True
    lowered, contexts = model.log_prob(x), model.contexts(x)
    model.low_precision = False
    assert not torch.equal(lowered, model.log_prob(x))
    monkeypatch.setattr(model, "contexts", lambda _: contexts)
    assert torch.equal(lowered, model.log_prob(x))
