"""Backward passes that are written by hand and cannot be differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


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
