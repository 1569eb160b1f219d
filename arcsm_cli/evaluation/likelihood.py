"""Exact log-likelihoods of an AR-CSM: by quadrature, and by the probability flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.errors import UsageError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import ConditionalModel, Conditionals
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.quadrature import log_density

METHODS = ("flow", "quadrature", "spline")
_EVALUATIONS = 1 << 15  # score network rows in flight: activations stay in cache


@torch.no_grad()
def quadrature_log_likelihood(
    model: ARCSM, batch: Batch | Tensor, *, level: int = -1, points: int = 256
) -> Tensor:
    """Return log p(x_d | x_<d) for sorted examples, (B, D), in nats, by G-point quadrature.

    Arguments:
        batch: (B, D), already perturbed with the noise of the level whose density is meant.
        level: index into the model's noise levels.
        points: G, grid points for each conditional.
    """
    return _in_blocks(
        model,
        batch,
        max(1, _EVALUATIONS // points),
        lambda part, v: log_density(part.at(model.levels[level], level), v, points=points),
    )


@torch.no_grad()
def flow_log_likelihood(
    model: ARCSM, batch: Batch | Tensor, *, steps: int = 24, points: int = 128
) -> Tensor:
    """Return log p(x_d | x_<d) for sorted examples, (B, D), in nats, by the probability flow.

    Each scalar follows dx/dsigma = -sigma s(x; sigma) from the last level to the first; its
    log-density changes by -sigma ds/dx on the way (Song et al. 2021, theorem 1, per scalar). All
    D scalars run side by side, since contexts depend on the data alone. Classical Runge-Kutta
    steps, even in log sigma; the density at the end point by quadrature. Joint models only.

    Arguments:
        batch: (B, D), data plus noise of the last level.
        steps: Runge-Kutta steps.
        points: grid points for the density at the first level.
    """
    return _in_blocks(
        model,
        batch,
        _EVALUATIONS // 8,
        lambda part, v: _flow(part, v, steps=steps, points=points),
    )


def _flow(rows: Conditionals, x: Tensor, *, steps: int, points: int) -> Tensor:
    first, last = rows.levels[0], rows.levels[-1]
    x, change = flow_up(rows, x, last, first, steps)
    return log_density(rows.at(first), x, points=points) + change


def flow_up(
    rows: Conditionals, x: Tensor, low: float, high: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Follow the probability flow from values x (N,) at noise ``low`` up to ``high``.

    Runge-Kutta steps, even in log sigma.

    Returns:
        Where it ends, and the log-density of x less that of the end, (N,) each.
    """
    start = math.log(low)
    h = (math.log(high) - start) / steps

    def velocity(log_sigma: float, x: Tensor) -> tuple[Tensor, Tensor]:
        """d/d(log sigma) of x and of its accumulated log-density change."""
        s, ds = rows.at(math.exp(log_sigma)).with_derivative(x)
        weight = math.exp(2 * log_sigma)
        return -weight * s, -weight * ds

    change = torch.zeros_like(x)
    for i in range(steps):
        t = start + i * h
        v1, d1 = velocity(t, x)
        v2, d2 = velocity(t + h / 2, x + h / 2 * v1)
        v3, d3 = velocity(t + h / 2, x + h / 2 * v2)
        v4, d4 = velocity(t + h, x + h * v3)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return x, change


def _in_blocks(
    model: ARCSM,
    batch: Batch | Tensor,
    size: int,
    evaluate: Callable[[Conditionals, Tensor], Tensor],
) -> Tensor:
    """Return what is evaluated of ``size`` conditionals and their values at a time, (B, D)."""
    batch = Batch.of(batch)
    rows, values = ConditionalModel(model).of_examples(batch), batch.x.flatten()
    parts = [
        evaluate(rows.rows(slice(i, i + size)), values[i : i + size])
        for i in range(0, len(values), size)
    ]
    return torch.cat(parts).view_as(batch.x)


@torch.no_grad()
def spline_log_likelihood(model: ARCSM, batch: Batch | Tensor) -> Tensor:
    """Return log p(x_d | x_<d) for sorted examples, (B, D), in nats, of a distilled model's draws.

    By the change of variables of its quantile functions.

    Arguments:
        batch: (B, D), data plus noise of the last level.
    """
    return _in_blocks(
        model,
        batch,
        _EVALUATIONS // 8,
        lambda part, v: part.quantiles().log_density(v[:, None])[:, 0],
    )


@torch.no_grad()
def log_likelihood(
    model: AutoregressiveModel, batch: Batch | Tensor, method: str | None = None
) -> Tensor:
    """Return log p(x_d | x_<d) of sorted, perturbed examples, (B, D), in nats.

    Arguments:
        method: ``flow``, ``quadrature`` or ``spline``; None takes that of `default_method`.

    Raises:
        UsageError: for a method that does not fit the model.
    """
    if isinstance(model, ARMLE):
        if method is not None:
            raise UsageError(
                f"--method {method} is for score models; this one gives its likelihood directly"
            )
        return model.log_prob(batch)
    assert isinstance(model, ARCSM)
    joint = model.config.annealing == "joint"
    if method == "flow" and not joint:
        raise UsageError(
            "--method flow needs a model of joint annealing, this one is "
            f"{model.config.annealing}: use quadrature"
        )
    if method == "spline" and model.quantiles is None:
        raise UsageError("--method spline needs a model that 'arcsm distill' has made")
    how = {
        "flow": flow_log_likelihood,
        "quadrature": quadrature_log_likelihood,
        "spline": spline_log_likelihood,
    }
    return how[method or default_method(model)](model, batch)


def default_method(model: AutoregressiveModel) -> str:
    """Return how the likelihood is computed unless another way is asked for.

    Of distilled models it is that of what they draw; ``direct`` where conditionals are normalised.
    """
    if isinstance(model, ARMLE):
        return "direct"
    if model.config.quantiles is not None:
        return "spline"
    return "flow" if model.config.annealing == "joint" else "quadrature"
