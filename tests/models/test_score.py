"""The conditional score network: its tangent, and the kernel that computes both in blocks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arcsm_cli.models import fused, score
from arcsm_cli.models.score import ConditionalScoreNetwork

ROWS = 23
LAYERS = [(9,), (8, 6), (7, 7, 7)]
layers = pytest.mark.parametrize("hidden", LAYERS, ids=str)
levels = pytest.mark.parametrize("log_sigma", [None, (-3.0, 1.0)], ids=["one level", "joint"])

Evaluate = Callable[..., tuple[Tensor, ...]]


@pytest.fixture(params=["plain", "fused"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way to evaluate; the fused one in several blocks, the last one ragged."""
    monkeypatch.setattr(fused, "_ROWS", 10)
    monkeypatch.setattr(score, "_runs_fused", lambda x: request.param == "fused")
    return str(request.param)


def network(
    hidden: tuple[int, ...], log_sigma: tuple[float, float] | None
) -> ConditionalScoreNetwork:
    torch.manual_seed(0)
    net = ConditionalScoreNetwork(4, hidden, log_sigma).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def points(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, contexts and log sigma."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    c = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    log_sigma = 4 * torch.rand(shape, generator=generator, dtype=torch.float64) - 3
    return x, c, log_sigma


def gradients(net: ConditionalScoreNetwork, *, tangent: bool) -> list[Tensor]:
    """Of an arbitrary loss, in x, in the contexts and in every weight."""
    x, c, log_sigma = points(ROWS)
    x.requires_grad_()
    c.requires_grad_()
    weight = torch.linspace(-1, 2, ROWS, dtype=torch.float64)
    if tangent:
        value, slope = net.value_and_tangent(x, c, log_sigma)
        loss = (weight * value).sum() + (weight.flip(0) * slope).sum() + (value * slope).mean()
    else:
        loss = (weight * net.value(x, c, log_sigma).square()).sum()
    return list(torch.autograd.grad(loss, [x, c, *net.parameters()]))


@layers
@levels
@pytest.mark.usefixtures("kernel")
def test_the_tangent_is_the_derivative_in_x(
    hidden: tuple[int, ...], log_sigma: tuple[float, float] | None
) -> None:
    net = network(hidden, log_sigma)
    x, c, level = points(ROWS)
    x.requires_grad_()
    _, slope = net.value_and_tangent(x, c, level)
    plain = net.at(x, net.project(c, level))[0]
    (expected,) = torch.autograd.grad(plain.sum(), x)
    assert ((slope - expected).abs() <= 1e-10 * expected.abs()).all()


@layers
@levels
@pytest.mark.usefixtures("kernel")
def test_the_value_is_the_same_with_and_without_the_tangent(
    hidden: tuple[int, ...], log_sigma: tuple[float, float] | None
) -> None:
    net = network(hidden, log_sigma)
    value, _ = net.value_and_tangent(*points(ROWS))
    assert torch.allclose(net.value(*points(ROWS)), value, rtol=1e-12, atol=1e-12)


@layers
@levels
def test_both_kernels_give_the_same_value_and_tangent(
    hidden: tuple[int, ...],
    log_sigma: tuple[float, float] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "_ROWS", 10)
    net = network(hidden, log_sigma)
    results = []
    for runs_fused in (True, False):
        monkeypatch.setattr(score, "_runs_fused", lambda x, answer=runs_fused: answer)
        results.append(torch.stack(net.value_and_tangent(*points(ROWS))))
    assert torch.allclose(*results, rtol=1e-11, atol=1e-11)


@layers
@levels
@pytest.mark.parametrize("tangent", [True, False], ids=["with tangent", "value only"])
@pytest.mark.parametrize("kept", [1 << 28, 0], ids=["kept", "computed again"])
def test_both_kernels_give_the_same_gradients(
    hidden: tuple[int, ...],
    log_sigma: tuple[float, float] | None,
    tangent: bool,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "_ROWS", 10)
    monkeypatch.setattr(fused, "_KEPT", kept)
    net = network(hidden, log_sigma)
    results = []
    for runs_fused in (True, False):
        monkeypatch.setattr(score, "_runs_fused", lambda x, answer=runs_fused: answer)
        results.append(gradients(net, tangent=tangent))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


@levels
def test_the_fused_gradients_pass_a_finite_difference_check(
    log_sigma: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_ROWS", 2)
    net = network((3, 2), log_sigma)
    x, c, level = points(3)
    inputs = [x.requires_grad_(), c.requires_grad_(), *net.parameters()]

    def evaluate(x: Tensor, c: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return net.value_and_tangent(x, c, level)

    assert torch.autograd.gradcheck(evaluate, inputs)


def test_the_fused_kernel_refuses_to_be_differentiated_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(score, "_runs_fused", lambda x: True)
    x, c, level = points(3)
    value, _ = network((3, 2), None).value_and_tangent(x.requires_grad_(), c, level)
    with pytest.raises(RuntimeError, match="once"):
        torch.autograd.grad(value.sum(), x, create_graph=True)


@pytest.mark.usefixtures("kernel")
def test_rows_do_not_depend_on_each_other() -> None:
    net = network((8, 6), (-3.0, 1.0))
    whole = torch.stack(net.value_and_tangent(*points(ROWS)))
    part = torch.stack(net.value_and_tangent(*(t[5:7] for t in points(ROWS))))
    assert torch.allclose(part, whole[:, 5:7], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("kernel")
def test_any_leading_shape_is_kept() -> None:
    net = network((8, 6), (-3.0, 1.0))
    x, c, level = points(2, 5, 3)
    value, slope = net.value_and_tangent(x, c, level)
    assert value.shape == slope.shape == net.value(x, c, level).shape == (2, 5, 3)


@pytest.mark.usefixtures("kernel")
def test_one_level_for_all_equals_a_level_for_each() -> None:
    net = network((8, 6), (-3.0, 1.0))
    x, c, _ = points(ROWS)
    shared = net.value(x, c, torch.tensor(-1.0, dtype=torch.float64))
    each = net.value(x, c, torch.full((ROWS,), -1.0, dtype=torch.float64))
    assert torch.allclose(shared, each, rtol=1e-12, atol=1e-12)


def test_a_network_of_one_level_ignores_the_level() -> None:
    net = network((8, 6), None)
    x, c, level = points(ROWS)
    assert torch.equal(net.value(x, c, level), net.value(x, c, level + 1))


def test_a_joint_network_tells_levels_apart() -> None:
    net = network((8, 6), (-3.0, 1.0))
    x, c, _ = points(ROWS)
    ends = [net.value(x, c, torch.tensor(t, dtype=torch.float64)) for t in (-3.0, 1.0)]
    assert (ends[0] - ends[1]).abs().min() > 1e-3


@layers
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_value_never_exceeds_its_bound(hidden: tuple[int, ...], scale: float) -> None:
    net = network(hidden, None)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    x, c, _ = points(ROWS)
    far = torch.cat([net.value(s * x, s * c, None).abs() for s in (0.0, 1.0, 1e3, 1e9)])
    assert far.max() <= net.bound * (1 + 1e-12)


def test_a_network_without_hidden_units_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        ConditionalScoreNetwork(4, ())
