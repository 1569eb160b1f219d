"""A model's exact density in one or two dimensions, on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.evaluation.model_metrics import density_text
from arcsm_cli.evaluation.readings import log_scale
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.plotting.window import Window, window
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import choose_sampler

_BATCH = 4096
_CURVE = 512  # points of a curve
_FEWEST, _MOST = 112, 224  # points along each side of a surface
_MOST_NATS = 700.0  # whose exponential is finite
_SCOUTS = 2000  # samples that show where the mass is


@dataclass(frozen=True)
class ModelDensity:
    """log-densities of a model on an even grid.

    Attributes:
        windows: the grid's ends along each of the D variables (D is 1 or 2), in file units.
        log_density: (G,) or, first index the first variable, (G, G); nats, -inf for zero.
        text: which density it is.
    """

    windows: list[Window]
    log_density: NDArray[np.float64]
    text: str


@dataclass(frozen=True)
class Slices:
    """Densities of the variable that is drawn last, given values of the one drawn first.

    Attributes:
        given: index of the first variable in the model's order; the other one is 1 - given.
        values: K values of it, in file units.
        points: (G,), of the other variable.
        log_density: (K, G), nats.
    """

    given: int
    values: list[float]
    points: NDArray[np.float64]
    log_density: NDArray[np.float64]


def density_on(
    model: AutoregressiveModel, windows: list[Window], tick: Callable[[int], None] = lambda _: None
) -> ModelDensity:
    """Evaluate a model's density on an even grid over the windows.

    Arguments:
        model: of one or two variables.
        windows: as many as variables.
        tick: told of each grid point done; `grid_size` says how many there are.

    Raises:
        DamagedInputError: the density is not a number where it was asked for.
    """
    count = _points(model, windows)
    sides = [torch.linspace(*ends, count, dtype=torch.float64) for ends in windows]
    grid = torch.cartesian_prod(*sides).view(-1, len(windows))
    log_p = [part.sum(1) for part in _evaluate(model, grid, tick)]
    values = _checked(torch.cat(log_p) - log_scale(model)).reshape([count] * len(windows))
    return ModelDensity(windows, values, density_text(model, perturbed=True))


def grid_size(model: AutoregressiveModel, windows: list[Window]) -> int:
    """How many points `density_on` evaluates."""
    return math.prod([_points(model, windows)] * len(windows))


def conditionals(model: AutoregressiveModel, values: list[float], windows: list[Window]) -> Slices:
    """Evaluate conditionals of a two-dimensional model.

    Arguments:
        values: of the variable that comes first in the model's order.
        windows: ends of the axes of both variables.

    Raises:
        DamagedInputError: as for `density_on`.
    """
    given = int(model.order[0])
    points = torch.linspace(*windows[1 - given], _CURVE, dtype=torch.float64)
    pairs = torch.cartesian_prod(torch.tensor(values, dtype=torch.float64), points)
    if given == 1:
        pairs = pairs.flip(1)
    log_p = torch.cat([part[:, 1] for part in _evaluate(model, pairs, lambda _: None)])
    scale = np.broadcast_to(model.config.data_scale, 2)[1 - given]
    scaled = _checked(log_p - math.log(scale))
    return Slices(given, values, points.numpy(), scaled.reshape(len(values), _CURVE))


def mass_windows(model: AutoregressiveModel) -> list[Window]:
    """Where a model has its mass, found from samples of it, along each variable.

    Raises:
        DamagedInputError: its samples are not finite.
    """
    noise = SampleNoise(0, range(_SCOUTS), model.mean.device)
    scores_of_one_level = isinstance(model, ARCSM) and model.config.annealing != "joint"
    sampler = choose_sampler(model, "grid" if scores_of_one_level else None)
    x = sample(model, sampler, noise).cpu().numpy()
    if not np.isfinite(x).all():
        raise DamagedInputError("the model's samples are not finite: it has no density to draw")
    return [window(column) for column in x.T]


def _points(model: AutoregressiveModel, windows: list[Window]) -> int:
    """Enough points for the finest structure that the model's noise leaves, within reason."""
    if len(windows) == 1:
        return _CURVE
    scales = np.broadcast_to(model.config.data_scale, len(windows))
    sides = [
        float((high - low) / scale) for (low, high), scale in zip(windows, scales, strict=True)
    ]
    return round(min(max(max(sides) / max(model.sigma_min, 1e-3), _FEWEST), _MOST))


def _evaluate(
    model: AutoregressiveModel, x: Tensor, tick: Callable[[int], None]
) -> Iterator[Tensor]:
    """Yield log p(x_d | x_<d) in the model's scale, (B, D), for the rows of x in file units."""
    for part in torch.split(x, _BATCH):
        rows = model.sort(part)
        log_p = log_likelihood(model, rows).cpu().double()
        tick(len(part))
        yield log_p


def _checked(log_density: Tensor) -> NDArray[np.float64]:
    values: NDArray[np.float64] = log_density.numpy()
    if not (values < _MOST_NATS).all():  # so that NaN is refused as well
        raise DamagedInputError("the model's density is not a number everywhere in the figure")
    return values
