"""Orders that models of any order are trained over, and those that are asked of them."""

import pytest
import torch

from arcsm_cli.models.any_order import in_turn, random_orders, visits, whole_places


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 4, 5), (3, 2, 6)])
def test_orders_of_training_visit_every_place_once(shape: tuple[int, ...]) -> None:
    orders = random_orders(shape, 200, torch.Generator().manual_seed(0))
    places = orders.shape[1]
    assert places == (shape[0] if len(shape) == 1 else shape[1] * shape[2])
    assert torch.equal(orders.sort(1).values, torch.arange(places).expand(200, -1))


def test_every_order_of_vectors_is_as_likely() -> None:
    orders = random_orders((3,), 6000, torch.Generator().manual_seed(0))
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000).abs() < 5 * 1000**0.5).all()


def test_images_are_seen_by_halves_and_without_rectangles() -> None:
    orders = random_orders((1, 6, 4), 2000, torch.Generator().manual_seed(0))
    first = torch.zeros(2000, 24, dtype=torch.bool).scatter_(1, orders[:, :12], True)
    upper = torch.arange(24) < 12
    assert (first == upper).all(1).sum() > 50  # the lower half given the upper
    assert (first == ~upper).all(1).sum() > 50
    ring = torch.ones(6, 4, dtype=torch.bool)
    ring[2:4, 1:3] = False
    first = torch.zeros(2000, 24, dtype=torch.bool).scatter_(1, orders[:, :20], True)
    assert (first == ring.flatten()).all(1).any()


def test_parts_are_visited_in_turn_also_in_random_orders() -> None:
    first, then = (torch.rand(5, 9) < 0.4 for _ in range(2))
    then &= ~first
    for generator in (None, torch.Generator().manual_seed(0)):
        order = in_turn(first, then, generator=generator)
        rank = torch.where(first, 0, torch.where(then, 1, 2)).gather(1, order)
        assert (rank.diff() >= 0).all()
        assert torch.equal(order.sort(1).values, torch.arange(9).expand(5, -1))


def test_a_pixel_is_visited_channel_by_channel() -> None:
    steps = visits(torch.tensor([[1, 0], [1, 0]]), 6)
    assert steps == [3, 4, 5, 0, 1, 2]


def test_a_part_that_cuts_a_pixel_is_told_from_others() -> None:
    part = torch.zeros(3, 2, 2, dtype=torch.bool)
    part[:, 0, 1] = True
    found = whole_places(part, (3, 2, 2))
    assert found is not None
    assert found.tolist() == [False, True, False, False]
    part[0, 1, 1] = True
    assert whole_places(part, (3, 2, 2)) is None
