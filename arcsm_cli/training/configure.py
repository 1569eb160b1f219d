"""From data and a few choices to a model's configuration."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.models.config import LIKELIHOODS, ModelConfig, noise_levels, parameter_width
from arcsm_cli.training.scaling import scaling_of, warn_of_scales

_T = TypeVar("_T")


class PixelCNNSize(NamedTuple):
    """Sizes of PixelCNN++ that go together."""

    filters: int
    resnet_blocks: int
    dropout: float


SIZES = {
    "small": PixelCNNSize(32, 2, 0.0),
    "base": PixelCNNSize(96, 3, 0.25),
    "paper": PixelCNNSize(160, 5, 0.5),
}


class Choices(NamedTuple):
    """What the command line may leave open (None): filled in from the data's kind and size.

    ``size``, one of `SIZES`, stands for ``filters``, ``resnet_blocks`` and ``dropout`` where those
    are open.
    """

    order: str = "raster"
    order_seed: int = 0
    context: str = "made"
    context_width: int | None = None
    size: str | None = None
    filters: int | None = None
    resnet_blocks: int | None = None
    dropout: float | None = None
    likelihood: str = ""
    components: int | None = None
    hidden: tuple[int, ...] | None = None
    residual: bool = False
    score_hidden: tuple[int, ...] | None = None
    annealing: str = "joint"
    sigma_max: float | None = None
    sigma_min: float | None = None
    levels: int | None = None
    standardize: bool = False


def model_config(data: Dataset, choices: Choices) -> ModelConfig:
    """Return the configuration of a model for ``data``.

    Images go from [0, 1] to [-1, 1]; vectors stay as they are, or are standardised per column. The
    defaults of the noise levels are the paper's (section 5) for staged annealing; joint annealing
    starts where the noise dwarfs the data.

    Raises:
        UsageError: if the choices do not fit the data or one another.
    """
    _check_fit(data, choices)
    image = data.kind == "image"
    shift, scale, mean, sd = scaling_of(data, standardize=choices.standardize)
    spread, sd = sd, sd.clamp(min=1e-3)
    discrete = choices.likelihood == LIKELIHOODS[-1]
    if discrete:  # its parameters are stated for [-1, 1] itself
        mean, sd = torch.tensor([0.0]), torch.tensor([1.0])
    site = data.shape[0] if discrete and choices.context == "pixelcnn" else 1
    components = _or(choices.components, 10)
    width = _or(choices.context_width, 16)
    if choices.likelihood:
        width = parameter_width(choices.likelihood, components, site)
    size = SIZES[choices.size or "paper"]

    dimensions = math.prod(data.shape)
    widths = (64, 64) if dimensions <= 16 else (512, 512) if dimensions <= 256 else (1024, 1024)
    config = ModelConfig(
        shape=data.shape,
        levels=_levels(choices, image=image, channels=data.shape[0], sd=float(sd.max())),
        order=choices.order,
        order_seed=choices.order_seed,
        context=choices.context,
        context_width=width,
        filters=_or(choices.filters, size.filters),
        resnet_blocks=_or(choices.resnet_blocks, size.resnet_blocks),
        dropout=_or(choices.dropout, size.dropout),
        likelihood=choices.likelihood,
        components=components,
        hidden=_or(choices.hidden, widths),
        residual=choices.residual,
        score_hidden=choices.score_hidden or ((64, 64) if image else (64, 64, 64)),
        annealing=choices.annealing,
        data_shift=shift,
        data_scale=scale,
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        columns=data.columns or (),
    )
    problem = config.problem()
    if problem:
        raise UsageError(problem)
    if not image and not choices.standardize:
        warn_of_scales(data, spread, config.levels[-1])
    return config


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _check_fit(data: Dataset, choices: Choices) -> None:
    """Refuse a context network or a likelihood that is not for examples of this shape."""
    name, image, sides = label(data.name), data.kind == "image", data.shape[1:]
    if choices.likelihood == LIKELIHOODS[-1] and not image:
        raise UsageError(f"--likelihood {LIKELIHOODS[-1]} is of images, {name} holds vectors")
    if choices.context != "pixelcnn":
        return
    takes = "--context pixelcnn takes images"
    if not image or data.shape[0] not in (1, 3):
        holds = f"images of {data.shape[0]} channels" if image else "vectors"
        raise UsageError(f"{takes} of 1 or 3 channels, {name} holds {holds}: use made")
    if any(side % 4 for side in sides):
        held = " x ".join(map(str, sides))
        raise UsageError(
            f"{takes} with sides that are multiples of 4, {name} holds {held}: use --resize"
        )


def _levels(choices: Choices, *, image: bool, channels: int, sd: float) -> tuple[float, ...]:
    low = choices.sigma_min
    if low is None and choices.likelihood == LIKELIHOODS[-1]:
        low = 0.0
    if low is None:
        low = 0.04 if image else 0.05
    if choices.annealing == "none":
        if choices.sigma_max is not None or choices.levels not in (None, 1):
            raise UsageError("--annealing none has one level: give --sigma-min alone")
        return (low,)
    high = choices.sigma_max
    if high is None and choices.annealing == "joint":
        high = 3.0 * max(1.0, sd)
    elif high is None:
        high = 0.2 if image and channels == 3 else 1.0
    count = choices.levels or (10 if choices.annealing == "joint" else 3)
    if not 0 < low < high:
        raise UsageError(f"--sigma-min {low} must be positive and below --sigma-max {high}")
    if count < 2:
        raise UsageError(f"--levels {count}: {choices.annealing} annealing takes at least 2")
    return noise_levels(high, low, count)
