"""PixelCNN++ beside a network written plainly: equal contexts, gradients and reach."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from arcsm_cli.models.pixelcnn_layers import WeightNormalized
from tests.models.images import (
    FILTERS,
    PIXELCNNS,
    WIDTH,
    Case,
    cases,
    gradients,
    jacobian,
)


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
