"""MADE: what may depend on what, and the two ways to evaluate it."""

import pytest
import torch
from torch import Tensor

from arcsm_cli.models import masked
from arcsm_cli.models.made import MADE

# Depth, residual connections, fewer and more units than dimensions, a single dimension.
SHAPES = [
    (1, (), False),
    (1, (5,), False),
    (1, (6, 6), True),
    (2, (), False),
    (2, (1,), False),
    (2, (7, 5), False),
    (5, (2,), False),
    (5, (8, 8, 8), True),
    (7, (30, 4, 19), False),
    (12, (5, 5), True),
]
shapes = pytest.mark.parametrize(("dimensions", "hidden", "residual"), SHAPES)


def made(dimensions: int, hidden: tuple[int, ...], residual: bool, width: int = 3) -> MADE:
    """A network with weights and biases of order 1, also where the mask hides them."""
    torch.manual_seed(0)
    network = MADE(dimensions, width, hidden, residual=residual).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def inputs(batch: int, dimensions: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, dimensions, generator=generator, dtype=torch.float64)


def one_by_one(network: MADE, x: Tensor) -> Tensor:
    state = network.incremental(torch.empty(len(x), 0))
    contexts = []
    for column in x.T:
        contexts.append(state.contexts().clone())
        state.append(column)
    return torch.stack(contexts, 1)


@pytest.fixture(params=["plain", "blocked"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way to compute the masked product."""
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1 if request.param == "blocked" else 1 << 60)
    return str(request.param)


@shapes
@pytest.mark.usefixtures("product")
def test_contexts_do_not_depend_on_their_own_or_later_inputs(
    dimensions: int, hidden: tuple[int, ...], residual: bool
) -> None:
    network = made(dimensions, hidden, residual)
    x = inputs(1, dimensions)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v)[0], x)[:, :, 0]
    for d in range(dimensions):
        assert torch.equal(jacobian[d, :, d:], torch.zeros(3, dimensions - d).double())


@shapes
@pytest.mark.usefixtures("product")
def test_contexts_depend_on_every_earlier_input_that_units_can_carry(
    dimensions: int, hidden: tuple[int, ...], residual: bool
) -> None:
    network = made(dimensions, hidden, residual)
    x = inputs(1, dimensions)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v)[0], x)[:, :, 0]
    # Inputs above the largest degree of a narrow layer reach no output.
    degrees = [int(d.max()) for d in network.degrees]
    last = min(dimensions - 1, *degrees)
    assert (jacobian[-1, :, :last] != 0).all()


@shapes
def test_the_blocked_product_equals_the_plain_one(
    dimensions: int, hidden: tuple[int, ...], residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = made(dimensions, hidden, residual)
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1)
    blocked = made(dimensions, hidden, residual)
    x = inputs(4, dimensions)
    assert torch.allclose(plain(x), blocked(x), rtol=0, atol=1e-12)


@shapes
def test_the_blocked_product_has_the_plain_gradients(
    dimensions: int, hidden: tuple[int, ...], residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for limit in (1 << 60, 1):
        monkeypatch.setattr(masked, "_BLOCKED_FROM", limit)
        network = made(dimensions, hidden, residual)
        x = inputs(4, dimensions).requires_grad_()
        y = network(x)
        weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
        (weight * y).sum().backward()
        gradients.append([x.grad, *(p.grad for p in network.parameters())])
    # With D = 1 the input reaches nothing, in either way: no gradient or zeros.
    zero = torch.zeros((), dtype=torch.float64)
    for one, other in zip(*gradients, strict=True):
        one, other = (zero if g is None else g for g in (one, other))
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-11)


def test_hidden_weights_that_the_mask_excludes_get_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1)
    network = made(6, (10, 10), False)
    network(inputs(4, 6)).square().sum().backward()
    for layer in (*network.hidden, network.output):
        assert isinstance(layer, masked.MaskedLinear)
        assert layer.weight.grad is not None
        assert (layer.weight.grad[layer.mask() == 0] == 0).all()


def test_the_blocked_product_follows_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "_BLOCKED_FROM", 1)
    network = made(6, (16, 16), False).float()
    x = inputs(4, 6).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x)
    error = (rounded - network(x)).abs().max() / network(x).abs().max()
    assert 0 < error < 0.05


@shapes
@pytest.mark.parametrize("batch", [1, 5])
def test_one_dimension_after_another_gives_the_same_contexts(
    dimensions: int, hidden: tuple[int, ...], residual: bool, batch: int
) -> None:
    network = made(dimensions, hidden, residual)
    x = inputs(batch, dimensions)
    with torch.no_grad():
        assert torch.allclose(one_by_one(network, x), network(x), rtol=1e-12, atol=1e-12)


def test_evaluations_of_one_network_do_not_disturb_each_other() -> None:
    network = made(3, (8, 8), False)
    both = inputs(4, 3), inputs(4, 3).neg()
    states = [network.incremental(torch.empty(4, 0)) for _ in both]
    for d in range(3):
        for x, state in zip(both, states, strict=True):
            assert torch.allclose(state.contexts(), network(x)[:, d], rtol=1e-12, atol=1e-12)
            state.append(x[:, d])


def test_unequal_residual_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        MADE(4, 2, (8, 9), residual=True)


@pytest.mark.parametrize("sizes", [(0, 2, (8,)), (4, 0, (8,)), (4, 2, (8, 0))])
def test_empty_layers_are_refused(sizes: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MADE(*sizes)


def test_unsorted_degrees_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        masked.MaskedLinear(torch.tensor([2, 1]), torch.tensor([1, 2]))


@pytest.mark.parametrize("blocked_from", [0, 150, 10**9], ids=["blocked", "mixed", "plain"])
def test_reduced_precision_lowers_the_products_alone(
    blocked_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked, "_BLOCKED_FROM", blocked_from)
    torch.manual_seed(0)
    made = MADE(dimensions=9, width=3, hidden=(16, 16), residual=True)
    x = torch.randn(5, 9)
    exact = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = made(x)
    lowered.square().sum().backward()
    assert lowered.dtype == torch.float32
    assert 0 < (lowered - exact).abs().max() < 0.05 * exact.abs().max()
    gradients = [p.grad for p in made.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
