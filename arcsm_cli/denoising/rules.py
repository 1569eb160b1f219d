"""How one scalar is restored, given its conditionals and what was observed of it.

A *rule* maps N conditionals and observed values (N,) to four things: how probable the observation
is (which weights particles), the expected clean value (which is reported), a value at the last
noise level (which later contexts are made from), and the expected clean value given that value.
Rules without a law of the observation weigh all alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from arcsm_cli.denoising.level_grid import LevelGrid
from arcsm_cli.evaluation.likelihood import flow_up
from arcsm_cli.models.conditional import Conditionals
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow

_STEPS = 6  # of the reverse diffusion
_FLOW_STEP = 0.5  # of log sigma
BLUR = 0.3  # of the levels at which exact observations are weighed: coarse grids resolve it


class Restored(NamedTuple):
    """Of N observed scalars, each (N,).

    Attributes:
        log_weight: log-probability of the observation, up to a constant.
        mean: expected clean value.
        value: at the last noise level; drawn, where the rule has a law of the observation.
        given_value: expected clean value once the value is known.
    """

    log_weight: Tensor
    mean: Tensor
    value: Tensor
    given_value: Tensor


class Rule(Protocol):
    """Restores one scalar of N examples."""

    @property
    def draws(self) -> int:
        """Standard normals that a scalar takes."""

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """Restore dimension d from y (N,) with standard normals z (N, draws)."""


@dataclass(frozen=True)
class Tweedie:
    """The expected clean value y + sigma^2 s(y; sigma), which contexts are made from as well.

    Arguments:
        sigma: standard deviation of the noise of y.
        level: which stage answers, for staged models.
    """

    sigma: float
    level: int = -1
    draws: int = 0

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        x = y + self.sigma**2 * rows.at(self.sigma, self.level)(y)
        return Restored(torch.zeros_like(y), x, x, x)


@dataclass(frozen=True)
class Flow:
    """Follow the probability flow from the observation at sigma to the last level."""

    sigma: float
    sigma_min: float
    steps: int = 8
    draws: int = 0

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        x = ProbabilityFlow(self.sigma, self.sigma_min, self.steps).follow(rows, y)
        return _unweighed(rows, x)


@dataclass(frozen=True)
class AnnealedLangevin:
    """Annealed Langevin dynamics from the observation (paper, section 5.3).

    Arguments:
        sampler: through the levels up to the observation's noise.
        first: the number of its first level in the model.
    """

    sampler: Langevin
    first: int = 0

    @property
    def draws(self) -> int:
        """Standard normals that a scalar takes."""
        return self.sampler.draws - 1

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        return _unweighed(rows, self.sampler.walk(rows, y, z, first=self.first))


@dataclass(frozen=True)
class Posterior:
    """Draw from p(x_d | y_d, x_<d) under normal noise, and weigh by p(y_d | x_<d).

    The observation lies at noise level sigma of the very conditional that the model knows at all
    levels: its density there is the weight, Tweedie's formula the mean, and the reverse diffusion
    from sigma down to the last level a draw.
    """

    sigma: float
    sigma_min: float
    draws: int = _STEPS

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        s = rows.at(self.sigma)(y)
        weight = LevelGrid.of(rows, self.sigma).log_density(y, s)
        x = diffuse_back(rows, y, self.sigma, self.sigma_min, z)
        return Restored(weight, y + self.sigma**2 * s, x, rows.denoised(x))


@dataclass(frozen=True)
class SaltPepperPosterior:
    """As `Posterior`, where y is the clean value or, with probability p, one end of the range.

    A grey value must be clean. At an end, clean and struck are weighed against each other: the
    probability of the clean value being there is read off the density at a small noise level, as if
    the mass around were all at this end.
    """

    probability: float
    sigma_min: float
    draws: int = 3 + _STEPS

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        blur = max(BLUR, self.sigma_min)
        grid = LevelGrid.of(rows, blur)
        log_p = grid.log_density(y, rows.at(blur)(y))
        there = (log_p + math.log(blur * math.sqrt(2 * math.pi))).clamp(max=0).exp()
        clean, struck = (1 - self.probability) * there, self.probability / 2
        end = (y.abs() - 1).abs() < 1e-6
        is_clean = torch.where(end, clean / (clean + struck), 1.0)
        fresh = diffuse_back(rows, grid.quantile(z[:, 0]), blur, self.sigma_min, z[:, 3:])
        kept = y + self.sigma_min * z[:, 1]
        clean_drawn = torch.special.ndtr(z[:, 2]) < is_clean
        value = torch.where(clean_drawn, kept, fresh)
        given_value = torch.where(clean_drawn, y, rows.denoised(fresh))
        mean = is_clean * y + (1 - is_clean) * grid.mean()
        weight = torch.where(end, (clean + struck).log(), log_p)
        return Restored(weight, mean, value, given_value)


@dataclass(frozen=True)
class MaskPosterior:
    """Known values stay; hidden ones are drawn, and weighed by the known ones that come later.

    Joint models draw and weigh on a grid at some noise and go by the flow between that and the last
    level: that level's score alone does not know how the mass is shared between separate modes.

    Arguments:
        hidden: bool (D,), in the model's order.
        sigma_min: the last level.
        blur: noise of the grid; ``sigma_min`` for models without the levels in between.
    """

    hidden: Tensor
    sigma_min: float
    blur: float
    draws: int = 1 + _STEPS

    def __call__(self, rows: Conditionals, y: Tensor, z: Tensor, d: int) -> Restored:
        """See `Rule`."""
        grid = LevelGrid.of(rows, self.blur)
        between = self.blur > self.sigma_min
        if self.hidden[d]:
            x = grid.quantile(z[:, 0])
            if between:
                x = diffuse_back(rows, x, self.blur, self.sigma_min, z[:, 1:])
            return _unweighed(rows, x)
        end, change = y, torch.zeros_like(y)
        if between:
            steps = math.ceil(math.log(self.blur / self.sigma_min) / _FLOW_STEP)
            end, change = flow_up(rows, y, self.sigma_min, self.blur, steps)
        weight = grid.log_density(end, rows.at(self.blur)(end)) + change
        return Restored(weight, y, y + self.sigma_min * z[:, 0], y)


def diffuse_back(rows: Conditionals, x: Tensor, high: float, low: float, z: Tensor) -> Tensor:
    """Draw from the conditional at noise ``low`` given the value at noise ``high``.

    Normal steps at levels in a geometric sequence, each with the mean and the variance that the
    value at its end has given that at its start: with g the variance of the noise between them,
    x + g s and g (1 + g ds/dx) (Bao et al. 2022, Analytic-DPM). Exact in the limit of many, and
    for normal data in one.

    Arguments:
        x: (N,), values with noise ``high``.
        z: (N, steps), standard normals.
    """
    steps = z.shape[1]
    ratio = (low / high) ** (1 / steps)
    for i in range(steps):
        a, b = high * ratio**i, high * ratio ** (i + 1)
        gone = a * a - b * b
        s, ds = rows.at(a).with_derivative(x)
        # The least variance that any data leave is that of a known clean value.
        variance = gone * (1 + gone * ds).clamp(min=(b / a) ** 2)
        x = x + gone * s + variance.sqrt() * z[:, i]
    return x


def _unweighed(rows: Conditionals, x: Tensor) -> Restored:
    """Return what is known of values x (N,) at the last level alone."""
    mean = rows.denoised(x)
    return Restored(torch.zeros_like(x), mean, x, mean)
