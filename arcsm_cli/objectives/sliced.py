"""Score matching of joint score fields: exact, sliced, and sliced with reduced variance.

Each takes the field's values s (B, D) at points x (B, D) that they were computed from, keeping the
graph, and returns one loss an example, (B,); their expectations over data and projections agree
(Hyvarinen 2005; Song et al. 2019, equations 7 and 8). For fields whose component d is a function of
x_1..x_d alone, the minimiser is the vector of conditional scores, and the exact objective is
composite score matching: what the other components would add to the joint score has mean zero given
x_1..x_d.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sm(s: Tensor, x: Tensor) -> Tensor:
    """Return 1/2 |s|^2 + tr(ds/dx): D backward passes (Hyvarinen 2005, theorem 1)."""
    trace = torch.zeros_like(s[:, 0])
    for d in range(s.shape[1]):
        (row,) = torch.autograd.grad(s[:, d].sum(), x, create_graph=True)
        trace = trace + row[:, d]
    return 0.5 * s.square().sum(1) + trace


def ssm(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """Return v'(ds/dx)v + 1/2 (v's)^2 for projections v (B, D) with E[v v'] = diag(w).

    In expectation the objective `sm` with component d weighted by w_d.
    """
    return _curvature(s, x, v) + 0.5 * (v * s).sum(1).square()


def ssm_vr(s: Tensor, x: Tensor, v: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return v'(ds/dx)v + 1/2 s'diag(w)s, whose second term is exact: less variance than `ssm`.

    Arguments:
        v: projections (B, D) with E[v v'] = diag(w).
        weight: w, broadcastable to s; None for 1.
    """
    square = s.square() if weight is None else weight * s.square()
    return _curvature(s, x, v) + 0.5 * square.sum(1)


def _curvature(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    (product,) = torch.autograd.grad((s * v).sum(), x, create_graph=True)
    return (product * v).sum(1)
