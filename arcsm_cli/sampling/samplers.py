"""Which samplers fit a model, and with which settings."""

from __future__ import annotations

from typing import Any

from arcsm_cli.errors import UsageError
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.options import flag, options_of
from arcsm_cli.parts import any_of
from arcsm_cli.registry import SAMPLERS
from arcsm_cli.sampling.draw import Sampler


def default_sampler(model: AutoregressiveModel) -> Sampler:
    """Return the first of the registry's samplers that fits a model."""
    return choose_sampler(model)


def choose_sampler(model: AutoregressiveModel, name: str | None = None, **given: Any) -> Sampler:
    """Return a sampler for a model.

    Arguments:
        name: of `arcsm_cli.registry.SAMPLERS`, or None for the model's default.
        given: of the samplers' own options, those that were given; None is not.

    Raises:
        UsageError: if the sampler does not fit the model, or an option does not fit the sampler.
    """
    likelihood, joint = isinstance(model, ARMLE), model.config.annealing == "joint"
    kind = SAMPLERS.tagged("densities" if likelihood else "scores")
    lacking = set() if joint else {"joint"}
    if model.config.quantiles is None:
        lacking.add("distilled")
    fitting = [name for name in kind if not lacking.intersection(SAMPLERS.part(name).tags)]
    name = name or fitting[0]
    if SAMPLERS.check(name) not in kind:
        raise UsageError(
            f"--sampler {name} does not fit a model of kind {model.kind}: use {any_of(fitting)}"
        )
    if name not in fitting and SAMPLERS.has(name, "distilled"):
        raise UsageError(
            f"--sampler {name} needs a model that 'arcsm distill' has made: use {any_of(fitting)}"
        )
    if name not in fitting:
        raise UsageError(
            f"--sampler {name} needs a model of joint annealing, this one is "
            f"{model.config.annealing}: use {any_of(fitting)}"
        )
    chosen = {option: value for option, value in given.items() if value is not None}
    for option in chosen.keys() - options_of(SAMPLERS.options(name)).keys():
        raise UsageError(f"{flag(option)} does not apply to --sampler {name}")
    sampler: Sampler = SAMPLERS[name].for_model(model, **chosen)
    return sampler
