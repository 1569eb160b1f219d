"""Langevin dynamics for one scalar at a time (paper, equations 21 and 22)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.conditional import Conditionals


@dataclass(frozen=True)
class Langevin:
    """Annealed Langevin dynamics through the model's levels; with one level, plain dynamics.

    At level i, ``steps`` times: x <- x + (a_i / 2) s(x; sigma_i) + sqrt(a_i) z with
    a_i = eps sigma_i^2 / sigma_L^2. The first level starts from the prior: a standard normal in
    the standardised scale of the first level.

    Arguments:
        levels: the noise levels, largest first.
        steps: T, steps a level.
        step_size: eps; by default 0.2 sigma_L^2, so that a_i is 0.2 sigma_i^2. Without noise
            (sigma_L = 0) eps itself is the step, in units of the data's variance.
    """

    levels: tuple[float, ...]
    steps: int = 20
    step_size: float | None = None

    @classmethod
    def for_model(
        cls, model: AutoregressiveModel, steps: int | None = None, step_size: float | None = None
    ) -> Langevin:
        """Return the sampler for a model of scores; more steps where there is no noise."""
        default = 20 if model.sigma_min > 0 else 100
        return cls(model.levels, steps or default, step_size)

    @property
    def draws(self) -> int:
        """Random numbers a dimension: the start, then one a step."""
        return 1 + len(self.levels) * self.steps

    def __call__(self, rows: Conditionals, z: Tensor) -> Tensor:
        """Draw one value for each conditional from z (N, `draws`); returns (N,)."""
        score = rows.at(self.levels[0], 0)
        return self.walk(rows, score.mean + z[:, 0] * (-score.pull) ** -0.5, z[:, 1:])

    def walk(self, rows: Conditionals, x: Tensor, z: Tensor, *, first: int = 0) -> Tensor:
        """Run the dynamics from x (N,) with standard normals z (N, draws - 1); returns (N,).

        Arguments:
            first: the number that the first of the levels has in the model (staged models).
        """
        k = 0
        for level, sigma in enumerate(self.levels, first):
            step = self._step(sigma, rows.spread if sigma == 0 else 1.0)
            x = rows.at(sigma, level).walk(x, step / 2, z[:, k : k + self.steps].T * step**0.5)
            k += self.steps
        return x

    def _step(self, sigma: float, spread: float | Tensor) -> float | Tensor:
        last = self.levels[-1]
        if last == 0:
            return (0.05 if self.step_size is None else self.step_size) * spread**2
        eps = 0.2 * last**2 if self.step_size is None else self.step_size
        return eps * sigma**2 / last**2
