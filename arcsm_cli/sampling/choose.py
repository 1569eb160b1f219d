"""Which samplers fit a model, and with which settings."""

from __future__ import annotations

from arcsm_cli.errors import UsageError
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow
from arcsm_cli.sampling.run import Sampler

_FEW = 256  # dimensions

SAMPLERS = ("ode", "langevin", "grid")


def default_sampler(model: ARCSM) -> Sampler:
    """Return ``ode`` for joint models and ``langevin`` for the others."""
    return choose_sampler(model, None)


def choose_sampler(
    model: ARCSM,
    name: str | None,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    points: int | None = None,
) -> Sampler:
    """Return a sampler for a model.

    Arguments:
        name: one of `SAMPLERS`, or None for the model's default.
        steps: Heun steps (ode) or Langevin steps a level.
        step_size: of Langevin.
        points: of the grid.

    Raises:
        UsageError: if the sampler does not fit the model, or an option does not fit the sampler.
    """
    joint = model.config.annealing == "joint"
    if name is None:
        name = "ode" if joint else "langevin"
    options = {"--steps": steps, "--step-size": step_size, "--points": points}
    takes = {"ode": {"--steps"}, "langevin": {"--steps", "--step-size"}, "grid": {"--points"}}
    for option, value in options.items():
        if value is not None and option not in takes[name]:
            raise UsageError(f"{option} does not apply to --sampler {name}")
    if name == "ode":
        if not joint:
            raise UsageError(
                f"--sampler ode needs a model of joint annealing, this one is "
                f"{model.config.annealing}: use langevin or grid"
            )
        # Few dimensions cost little: take care over each. Many, such as pixels, weigh less singly,
        # and five steps end within a tenth of sigma_min of the exact flow.
        few = model.config.dimensions <= _FEW
        wide = model.levels[0] >= 3.0 * float(model.sd.max())
        return ProbabilityFlow(
            model.levels[0],
            model.sigma_min,
            steps=steps or (16 if few else 5),
            exact_start=few or not wide,
        )
    if name == "langevin":
        default = 20 if model.sigma_min > 0 else 100
        return Langevin(model.levels, default if steps is None else steps, step_size)
    return Grid(model.sigma_min, 256 if points is None else points)
