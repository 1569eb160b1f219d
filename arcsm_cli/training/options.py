"""Which options of ``arcsm train`` go together, and what follows from the objective alone."""

from __future__ import annotations

import math

from arcsm_cli.errors import UsageError
from arcsm_cli.models.config import LIKELIHOODS
from arcsm_cli.registry import OBJECTIVES, any_of
from arcsm_cli.training.configure import Choices

GAUSSIAN, MIXTURE, DISCRETIZED = LIKELIHOODS
_MOST_UNITS = 1 << 16  # of a layer; no checkpoint may have more
# By the field of `Choices`: what only one kind of context network, or of model, has a use for.
_OF_CONTEXT = {
    "made": ("hidden", "residual"),
    "pixelcnn": ("size", "filters", "resnet_blocks", "dropout"),
}
_OF_SCORES = ("context_width", "score_hidden", "sigma_max", "levels")
_OF_LIKELIHOODS = ("likelihood", "components")


def layer_sizes(option: str, text: str | None, *, least: int = 0) -> tuple[int, ...] | None:
    """Read sizes of layers such as ``512,512``; an empty text is no layers at all.

    Raises:
        UsageError: if they are no sizes, or fewer than ``least``.

    Example:
        >>> layer_sizes("--hidden", "64,32"), layer_sizes("--hidden", "")
        ((64, 32), ())
    """
    if text is None:
        return None
    parts = text.split(",") if text else []
    # No more digits than the limit has: int() refuses texts of thousands with an error of its own.
    good = all(p.isdecimal() and len(p) <= 5 and 0 < int(p) <= _MOST_UNITS for p in parts)
    if not good or len(parts) < least:
        raise UsageError(
            f"{option} {text}: expected sizes from 1 to {_MOST_UNITS}, such as 512,512"
        )
    return tuple(map(int, parts))


def check_number(option: str, value: float | None, *, zero: bool = False) -> None:
    """Refuse what is not finite and above 0 (or 0 itself): typer's bounds include their ends."""
    if value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        return
    wanted = "number, 0 or more" if zero else "positive number"
    raise UsageError(f"{option} {value:g}: expected a {wanted}")


def settled(choices: Choices, objective: str, *, draws: int = 1) -> Choices:
    """Return the choices with the likelihood that follows from the objective.

    Arguments:
        choices: as the command line makes them, None or empty where it says nothing.
        objective: of `arcsm_cli.registry.OBJECTIVES`.
        draws: noise draws for each example.

    Raises:
        UsageError: naming an option that is out of range or that the others have no use for.
    """
    check_number("--sigma-max", choices.sigma_max)
    check_number("--sigma-min", choices.sigma_min, zero=choices.annealing == "none")
    if choices.dropout is not None and not 0 <= choices.dropout < 1:
        raise UsageError(f"--dropout {choices.dropout:g}: expected at least 0 and below 1")
    _check_context(choices)
    if OBJECTIVES.has(objective, "densities"):
        return _with_likelihood(choices, draws)
    _refuse(choices, _OF_LIKELIHOODS, _objectives("densities"))
    if OBJECTIVES.has(objective, "noise") and choices.sigma_min == 0:
        raise UsageError(f"--objective {objective} needs noise: give a positive --sigma-min")
    return choices


def _check_context(choices: Choices) -> None:
    for context, fields in _OF_CONTEXT.items():
        if context != choices.context:
            _refuse(choices, fields, f"--context {context}")
    if choices.context == "pixelcnn" and choices.order == "random":
        raise UsageError("--order random is for --context made: use raster or reversed")


def _with_likelihood(choices: Choices, draws: int) -> Choices:
    scores = _objectives("scores")
    if choices.annealing != "none":
        raise UsageError(f"--annealing {choices.annealing} is for {scores}: leave it out")
    _refuse(choices, _OF_SCORES, scores)
    if draws != 1:
        raise UsageError(f"--draws is for {scores}")
    likelihood = choices.likelihood
    if not likelihood:
        clean = choices.context == "pixelcnn" and not choices.sigma_min
        likelihood = DISCRETIZED if clean else MIXTURE
    if likelihood == GAUSSIAN and choices.components is not None:
        raise UsageError("--components is for mixtures, not for --likelihood gaussian")
    if likelihood == DISCRETIZED and choices.sigma_min:
        raise UsageError(f"--likelihood {DISCRETIZED} is of data without noise: no --sigma-min")
    return choices._replace(likelihood=likelihood)


def _objectives(tag: str) -> str:
    """Return the objectives of a kind of model as messages name them."""
    return f"--objective {any_of(OBJECTIVES.tagged(tag))}"


def _refuse(choices: Choices, fields: tuple[str, ...], owner: str) -> None:
    """Refuse these choices where they were made: they are for something else."""
    for field in fields:
        value = getattr(choices, field)
        if value is not None and value is not False and value != "":
            raise UsageError(f"--{field.replace('_', '-')} is for {owner}")
