"""The layers of PixelCNN++: activations, weights, what starts them, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.pixelcnn import PixelCNN
from arcsm_cli.models.pixelcnn_layers import WeightNormalized, concat_elu, gated_sum
from tests.models.images import (
    FILTERS,
    WIDTH,
    Case,
    Make,
    few,
    gradients,
    one_by_one,
)

# Layers


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


# Initialisation


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


# Refusals


@given(st.integers(1, 20), st.integers(1, 20))
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
