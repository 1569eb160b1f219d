"""The transformer: what may depend on what, in any order, and the ways to evaluate it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch, nothing_given
from arcsm_cli.errors import UsageError
from arcsm_cli.models import transformer
from arcsm_cli.models.any_order import random_orders, visits
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.once import differentiable_twice
from arcsm_cli.models.restore import make_model
from arcsm_cli.models.transformer import Transformer

# Shape and site: vectors, one variable, grey and coloured images, values and pixels as sites.
SHAPES = [((5,), 1), ((1,), 1), ((1, 3, 4), 1), ((3, 2, 3), 1), ((3, 2, 3), 3)]
shapes = pytest.mark.parametrize(("shape", "site"), SHAPES)
ordered = pytest.mark.parametrize("any_order", [False, True], ids=["own order", "any order"])


def network(shape: tuple[int, ...], site: int, layers: int = 2) -> Transformer:
    """A network given two numbers, with weights of order 1 also where they start as zero."""
    torch.manual_seed(0)
    net = Transformer(shape, 3, layers, 2, 16, site)
    net.condition_on(2, (16,) * (layers + 1))
    net.double()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(std=0.5)
    return net


def batch_of(net: Transformer, shape: tuple[int, ...], *, any_order: bool, count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, net.dimensions, generator=generator, dtype=torch.float64)
    order = random_orders(shape, count, generator) if any_order else None
    given = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return Batch(x, given, order)


def dimensions_of(net: Transformer, batch: Batch) -> Tensor:
    """Which dimension each example visits in turn, (B, D)."""
    order = net.places.expand(batch.size, -1) if batch.order is None else batch.order
    inside = torch.arange(net.channels)
    return (order[..., None] * net.channels + inside).flatten(1)


@shapes
@ordered
def test_a_context_depends_on_all_that_was_visited_before_and_nothing_else(
    shape: tuple[int, ...], site: int, any_order: bool
) -> None:
    net = network(shape, site)
    batch = batch_of(net, shape, any_order=any_order, count=1)
    jacobian: Any = torch.autograd.functional.jacobian(
        lambda x: net(batch.holding(x))[0].abs().sum(-1), batch.x
    )
    dims = dimensions_of(net, batch)[0]
    depends = jacobian[:, 0].repeat_interleave(site, 0)[dims][:, dims] != 0
    steps = torch.arange(net.dimensions)
    first_of_site = steps // site * site
    assert torch.equal(depends, steps[None] < first_of_site[:, None])


@shapes
@ordered
@pytest.mark.parametrize("rounded", [1, 4], ids=["cpu", "as on a gpu"])
def test_step_by_step_contexts_are_those_of_one_pass(
    shape: tuple[int, ...],
    site: int,
    any_order: bool,
    rounded: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transformer, "_ROUNDED_TO", {"cpu": rounded})
    net = network(shape, site)
    batch = batch_of(net, shape, any_order=any_order)
    whole, dims = net(batch), dimensions_of(net, batch)
    walk = net.incremental(batch.given)
    if batch.order is not None:
        walk = net.visiting(batch.given, batch.order)
    rows, each = torch.tensor([2, 0, 0]), torch.arange(3)
    for step in range(net.dimensions):
        if step == net.dimensions // 2:  # rows go on with orders of their own
            walk.select(rows)
            batch, whole, dims = batch.rows(rows), whole[rows], dims[rows]
        at = dims[:, step]
        assert torch.allclose(walk.contexts(), whole[each, at // site], atol=1e-10)
        walk.append(batch.x[each, at])


def test_blocks_start_as_the_identity() -> None:
    deep, shallow = (Transformer((6,), 3, layers, 2, 16) for layers in (4, 1))
    deep.load_state_dict(shallow.state_dict(), strict=False)
    x = torch.randn(2, 6)
    assert torch.equal(deep(x), shallow(x))


def test_keys_and_values_beyond_the_budget_are_refused_with_what_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Transformer((1, 4, 4), 3, layers=2, heads=2, units=16)
    each = 2 * 2 * 16 * 16 * 4
    monkeypatch.setattr(transformer, "MOST_MEMORY", 5 * each)
    net.incremental(torch.zeros(5, 0))
    with pytest.raises(UsageError, match=r"lower --batch-size .* 5 at a time"):
        net.incremental(torch.zeros(6, 0))


def test_second_derivatives_are_there_where_they_are_asked_for() -> None:
    net = network((4,), 1)
    batch = batch_of(net, (4,), any_order=True)
    x = batch.x.requires_grad_()
    with differentiable_twice():
        whole = net(batch.holding(x)).square().sum()
        (slope,) = torch.autograd.grad(whole, x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert second.isfinite().all()
    assert second.abs().max() > 0


def test_low_precision_contexts_are_near_and_causal() -> None:
    config = ModelConfig((1, 3, 4), (1.0, 0.1), context="transformer", heads=2, width=16)
    model = make_model(config)
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    x = torch.randn(2, 12)
    exact = model.contexts(x).detach()
    model.low_precision = True
    near = model.contexts(x)
    assert torch.allclose(near, exact, atol=0.05 * float(exact.abs().max()))
    x[:, 7:] += 1
    assert torch.equal(model.contexts(x)[:, :8], near[:, :8])


def test_walks_of_frames_follow_the_order_too() -> None:
    config = ModelConfig(
        (5,),
        (1.0, 0.1),
        context="transformer",
        heads=2,
        width=16,
        order="any",
        frames="contexts",
        mean=(0.0, 1.0, 2.0, 3.0, 4.0),
        sd=(1.0, 2.0, 3.0, 4.0, 5.0),
    )
    model = make_model(config)
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    x, order = torch.randn(3, 5), random_orders((5,), 3, torch.Generator().manual_seed(0))
    batch = Batch(x, nothing_given(3, x), order)
    whole, dims, each = model.contexts(batch), visits(order, 5), torch.arange(3)
    walk = model.networks[0].begin(batch.given, order)
    for at in dims:
        assert torch.allclose(walk.contexts(), whole[each, at], atol=1e-5)
        walk.append(x[each, at])
