"""Variable orders."""

import math

import pytest
import torch

from arcsm_cli.models.order import ORDERS, variable_order

SHAPES = [(1,), (5,), (1, 3, 4), (3, 3, 4), (2, 1, 1)]
orders = pytest.mark.parametrize("name", ORDERS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@orders
@shapes
def test_an_order_visits_every_dimension_once(name: str, shape: tuple[int, ...]) -> None:
    order = variable_order(name, shape, seed=3)
    assert order.sort().values.tolist() == list(range(math.prod(shape)))


@orders
def test_the_channels_of_a_pixel_follow_one_another_in_order(name: str) -> None:
    pixels = 12
    order = variable_order(name, (3, 3, 4), seed=3).view(pixels, 3)
    assert torch.equal(order, order[:, :1] + pixels * torch.arange(3))


def test_raster_visits_pixels_row_by_row() -> None:
    red = variable_order("raster", (3, 3, 4))[::3]
    assert red.tolist() == list(range(12))


@pytest.mark.parametrize("shape", [(5,), (1, 3, 4)], ids=str)
def test_reversed_is_raster_backwards(shape: tuple[int, ...]) -> None:
    assert torch.equal(variable_order("reversed", shape), variable_order("raster", shape).flip(0))


def test_reversed_visits_the_last_pixel_of_an_rgb_image_first() -> None:
    assert variable_order("reversed", (3, 3, 4))[:3].tolist() == [11, 23, 35]


@shapes
def test_a_random_order_is_a_function_of_its_seed(shape: tuple[int, ...]) -> None:
    assert torch.equal(variable_order("random", shape, 7), variable_order("random", shape, 7))


def test_seeds_give_different_random_orders() -> None:
    orders = {tuple(variable_order("random", (20,), seed).tolist()) for seed in range(5)}
    assert len(orders) == 5


def test_a_random_order_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    variable_order("random", (20,), 1)
    assert torch.equal(torch.rand(1), expected)


def test_an_unknown_order_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="raster, reversed, random"):
        variable_order("spiral", (4,))
