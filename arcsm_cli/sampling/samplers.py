"""Which samplers fit a model, and with which settings."""

from __future__ import annotations

from arcsm_cli.errors import UsageError
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.registry import SAMPLERS, any_of
from arcsm_cli.sampling.ancestral import Ancestral
from arcsm_cli.sampling.draw import Sampler
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow

_FEW = 256  # dimensions


def default_sampler(model: AutoregressiveModel) -> Sampler:
    """Return ``ode`` for joint AR-CSMs, ``langevin`` for others, ``ancestral`` for likelihoods."""
    return choose_sampler(model, None)


def choose_sampler(
    model: AutoregressiveModel,
    name: str | None,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    points: int | None = None,
) -> Sampler:
    """Return a sampler for a model.

    Arguments:
        name: of `arcsm_cli.registry.SAMPLERS`, or None for the model's default.
        steps: Heun steps (ode) or Langevin steps a level.
        step_size: of Langevin.
        points: of the grid.

    Raises:
        UsageError: if the sampler does not fit the model, or an option does not fit the sampler.
    """
    joint, likelihood = model.config.annealing == "joint", isinstance(model, ARMLE)
    if name is None:
        name = "ancestral" if likelihood else "ode" if joint else "langevin"
    fitting = SAMPLERS.tagged("densities" if likelihood else "scores")
    if SAMPLERS.check(name) not in fitting:
        raise UsageError(
            f"--sampler {name} does not fit a model of kind {model.kind}: use {any_of(fitting)}"
        )
    options = {"--steps": steps, "--step-size": step_size, "--points": points}
    takes = {"ode": {"--steps"}, "langevin": {"--steps", "--step-size"}, "grid": {"--points"}}
    takes["ancestral"] = set()
    for option, value in options.items():
        if value is not None and option not in takes[name]:
            raise UsageError(f"{option} does not apply to --sampler {name}")
    if isinstance(model, ARMLE):
        return Ancestral(model.head.draws)
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
