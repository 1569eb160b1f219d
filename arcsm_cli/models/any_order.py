"""Orders of places: those that models of any order are trained over, and those asked of them.

A *place* is a pixel with all its channels, or a variable of vectors. Orders are (B, P), int64:
entry (b, t) is the place that example b visits t-th. The probability of some variables given others
is a product of conditionals of one order: what is given first, what is asked for next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def place_count(shape: tuple[int, ...]) -> int:
    """Return P of examples (D,) or (C, H, W)."""
    return shape[-1] if len(shape) == 1 else shape[1] * shape[2]


def random_orders(shape: tuple[int, ...], count: int, generator: Generator) -> Tensor:
    """Return an order of training for each of ``count`` examples, (count, P).

    Of vectors every order is as likely. Of images, where no run is long enough for all orders, half
    are scans by rows or by columns, from any corner; of the others, some places come first and the
    rest follow in a scan: a random share of all places, in random order, or all that lie outside of
    a random rectangle.

    Arguments:
        shape: of an example.
        generator: all randomness comes from it; the orders are on its device.
    """
    device, places = generator.device, place_count(shape)

    def uniform(*size: int) -> Tensor:
        return torch.rand(count, *size, generator=generator, device=device)

    mixed = uniform(places).argsort(1)
    if len(shape) == 1:
        return mixed
    rows, columns = _grid(shape, device)
    turned = uniform(3, 1) < 0.5
    down = torch.where(turned[:, 0], rows, rows.max() - rows)
    along = torch.where(turned[:, 1], columns, columns.max() - columns)
    scan = torch.where(turned[:, 2], down * shape[2] + along, along * shape[1] + down)
    corners = uniform(2, 2)  # two rows, two columns
    sides = (corners[:, 0] * shape[1], corners[:, 1] * shape[2])
    ends = torch.stack(sides, 1).sort(2).values
    inside = (rows >= ends[:, :1, 0].floor()) & (rows <= ends[:, :1, 1])
    inside &= (columns >= ends[:, 1:, 0].floor()) & (columns <= ends[:, 1:, 1])
    share = uniform(1) * places
    kind = uniform(1)
    # What comes first has a negative key.
    scattered = torch.where(mixed < share, mixed - places, scan)
    around = torch.where(inside, scan, scan - places)
    return torch.where(kind < 0.5, scan, torch.where(kind < 0.75, scattered, around)).argsort(1)


def _grid(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of all places, (P,) each."""
    places = torch.arange(place_count(shape), device=device)
    return places // shape[2], places % shape[2]


def in_turn(*parts: Tensor, generator: Generator | None = None) -> Tensor:
    """Return the order that visits places part by part, and the rest last.

    Arguments:
        parts: which places each has, bool (..., P), none in two of them.
        generator: draws the order inside of the parts; None leaves the places in theirs.

    Returns:
        int64 (..., P).

    Example:
        >>> first, then = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]]).bool()
        >>> in_turn(first, then).tolist()
        [2, 3, 1, 0]
    """
    rank = sum(part.long() * (len(parts) - i) for i, part in enumerate(parts))
    assert isinstance(rank, Tensor)
    places = rank.shape[-1]
    inside = torch.arange(places)
    if generator is not None:
        inside = torch.randperm(places, generator=generator)
    return (inside.to(rank.device) - rank * places).argsort(-1)


def visits(order: Tensor | None, dimensions: int) -> Sequence[int] | Tensor:
    """Return which dimension each step visits: an int each, or (D, B) where examples differ.

    Arguments:
        order: (B, P), or None for the model's own.
        dimensions: D, P places with as many channels each.
    """
    if order is None:
        return range(dimensions)
    channels = dimensions // order.shape[1]
    steps = (order[..., None] * channels + torch.arange(channels, device=order.device)).flatten(1).T
    return steps[:, 0].tolist() if bool((steps == steps[:, :1]).all()) else steps


def whole_places(part: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return which places a part (..., *shape) of examples has, (..., P); None if it cuts one."""
    if len(shape) == 1:
        return part
    pixels = part.flatten(-2).movedim(-2, -1)
    return None if bool((pixels != pixels[..., :1]).any()) else pixels[..., 0]
