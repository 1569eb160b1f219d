"""Backward passes that are written by hand, and the plain operations that take their place.

A pass written by hand saves memory traffic, but cannot be differentiated again and gives a compiler
nothing to fuse. Whoever writes one also keeps the plain form, and asks `by_hand` which to take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_plain = 0  # how many `differentiable_twice` we are in


def by_hand(*, compiled: bool = False) -> bool:
    """Whether a pass written by hand is to be taken instead of plain operations.

    Arguments:
        compiled: it is the better choice under a compiler as well.
    """
    return _plain == 0 and (compiled or not torch.compiler.is_compiling())


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Let models compute by plain operations, which can be differentiated to any order.

    Example:
        >>> with differentiable_twice():
        ...     by_hand()
        False
    """
    global _plain
    _plain += 1
    try:
        yield
    finally:
        _plain -= 1


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a backward pass refuse to be part of a graph (``create_graph=True``).

    PyTorch's own `once_differentiable` refuses only where the incoming gradient has a graph; that
    of a plain sum has none, and the second derivative would lose this function without a word.

    Raises:
        RuntimeError: from the backward pass, where it would be differentiated.
    """

    @functools.wraps(backward)
    def refusing(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"{backward.__qualname__} can be differentiated once only")
        return backward(ctx, *gradients)

    return refusing
