"""From data and a few choices to a model's configuration."""

from __future__ import annotations

import math
from typing import Any

import torch

from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import Rows
from arcsm_cli.data.eight_bit import is_eight_bit
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.models.architecture import (
    DISCRETIZED,
    Architecture,
    Conditionals,
    Noise,
    parameter_width,
    site_of,
)
from arcsm_cli.models.config import ModelConfig, noise_levels
from arcsm_cli.options import Chosen, check_needs, check_parts
from arcsm_cli.parts import any_of
from arcsm_cli.registry import CONTEXTS, LIKELIHOODS, OBJECTIVES
from arcsm_cli.training.scaling import scaling_of, warn_of_scales

_LOOKED_AT = 1024  # examples at a time


class Choices(Chosen):
    """What the command line may say of a model; the rest follows from the data's kind and size.

    ``objective``, of `arcsm_cli.registry.OBJECTIVES`, may be given beside the options.

    Example:
        >>> Choices(objective="mle").annealing, Choices(sigma_min=0.1).annealing
        ('none', 'joint')
    """

    groups = (Architecture, Conditionals, Noise)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._known.setdefault("objective", "csm")

    @property
    def site(self) -> int:
        """S, how many values of an example of the ``shape`` known a context serves."""
        return site_of(self.context, self.likelihood, self.shape)


def check_choices(choices: Choices, *, conditional: bool = False) -> None:
    """Refuse choices that do not go together, before any data are read.

    Arguments:
        conditional: the model is to be told something of each example.

    Raises:
        UsageError: naming an option that is out of range or that the others have no use for.
    """
    given, objective = choices.given, choices.objective
    check_parts(given, CONTEXTS, choices.context)
    if conditional and not CONTEXTS.has(choices.context, "given"):
        raise UsageError(f"--given is for --context {any_of(CONTEXTS.tagged('given'))}")
    orders = CONTEXTS.options(choices.context).orders
    if choices.order not in orders:
        able = [name for name in CONTEXTS if choices.order in CONTEXTS.options(name).orders]
        raise UsageError(
            f"--order {choices.order} is for --context {any_of(able)}: use {any_of(orders)}"
        )
    sigma = given.get("sigma_min")
    if sigma is not None and not (
        0 < sigma < math.inf or (sigma, choices.annealing) == (0, "none")
    ):
        wanted = "number, 0 or more" if choices.annealing == "none" else "positive number"
        raise UsageError(f"--sigma-min {sigma:g}: expected a {wanted}")
    if OBJECTIVES.has(objective, "densities") and choices.annealing != "none":
        scores = f"--objective {any_of(OBJECTIVES.tagged('scores'))}"
        raise UsageError(f"--annealing {choices.annealing} is for {scores}: leave it out")
    for group in choices.groups:
        check_needs(given, group, OBJECTIVES, objective)
    if OBJECTIVES.has(objective, "noise") and sigma == 0:
        raise UsageError(f"--objective {objective} needs noise: give a positive --sigma-min")
    kind = choices.likelihood
    if kind and "components" in given and not LIKELIHOODS.has(kind, "mixture"):
        raise UsageError(f"--components is for mixtures, not for --likelihood {kind}")
    if choices.likelihood == DISCRETIZED and sigma:
        raise UsageError(f"--likelihood {DISCRETIZED} is of data without noise: no --sigma-min")


def model_config(data: Rows, choices: Choices, given: Conditions = ()) -> ModelConfig:
    """Return the configuration of a model for ``data``.

    Images go from [0, 1] to [-1, 1]; vectors stay as they are, or are standardised per column.

    Arguments:
        given: what the model is told of each example.

    Raises:
        UsageError: if the choices do not fit the data or one another.
    """
    image = data.kind == "image"
    choices = choices.about(image=image)
    _check_fit(data, choices)
    shift, scale, mean, sd = scaling_of(data, standardize=choices.standardize)
    spread, sd = sd, sd.clamp(min=1e-3)
    if choices.likelihood == DISCRETIZED:  # its parameters are stated for [-1, 1] itself
        mean, sd = torch.tensor([0.0]), torch.tensor([1.0])
    known = choices.about(
        shape=data.shape, image=image, dimensions=math.prod(data.shape), sd=float(sd.max())
    )
    width = known.context_width
    if known.likelihood:  # its parameters are the context
        width = parameter_width(known.likelihood, known.components, known.site)
    architecture = known.settled(Architecture, context_width=width)
    config = ModelConfig(
        shape=data.shape,
        levels=_levels(known),
        **vars(architecture) | vars(known.settled(Conditionals)),
        data_shift=shift,
        data_scale=scale,
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        columns=data.columns or (),
        given=given,
    )
    problem = config.problem()
    if problem:
        raise UsageError(problem)
    if not image and not choices.standardize:
        warn_of_scales(data, spread, config.levels[-1])
    return config


def check_dequantizing(config: ModelConfig, data: Rows) -> None:
    """Refuse ``--dequantize uniform`` for data that are not of 8 bits, or models that are.

    Raises:
        UsageError: saying which.
    """
    name = label(data.name)
    if not config.is_image:
        raise UsageError(f"--dequantize is of images, {name} holds vectors")
    if config.likelihood == DISCRETIZED:
        raise UsageError(f"--dequantize: --likelihood {DISCRETIZED} is of 8-bit values as they are")
    # 8-bit images are kept as such; others are looked at.
    parts = (data.stored(slice(i, i + _LOOKED_AT)).x for i in range(0, len(data), _LOOKED_AT))
    if not (data.stored(slice(1)).x.dtype == torch.uint8 or all(map(is_eight_bit, parts))):
        raise UsageError(f"--dequantize is of 8-bit images, {name} holds other values")


def _check_fit(data: Rows, choices: Choices) -> None:
    """Refuse a context network or a likelihood that is not for examples of this shape."""
    name = label(data.name)
    if choices.likelihood == DISCRETIZED and data.kind != "image":
        raise UsageError(f"--likelihood {DISCRETIZED} is of images, {name} holds vectors")
    want = CONTEXTS.options(choices.context).wants(data.shape)
    if want is not None:
        held = " x ".join(map(str, data.shape))
        holds = "vectors" if data.kind == "vector" else f"images of {held}"
        raise UsageError(
            f"--context {choices.context} takes {want.taken}, {name} holds {holds}: {want.remedy}"
        )


def _levels(known: Choices) -> tuple[float, ...]:
    given, low = known.given, known.sigma_min
    if known.annealing == "none":
        if "sigma_max" in given or given.get("levels", 1) != 1:
            raise UsageError("--annealing none has one level: give --sigma-min alone")
        return (low,)
    high, count = known.sigma_max, known.levels
    if not 0 < low < high:
        raise UsageError(f"--sigma-min {low} must be positive and below --sigma-max {high}")
    if count < 2:
        raise UsageError(f"--levels {count}: {known.annealing} annealing takes at least 2")
    return noise_levels(high, low, count)
