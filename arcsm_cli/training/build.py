"""From data and a few choices to a model's configuration."""

from __future__ import annotations

from typing import NamedTuple

import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.models.config import ModelConfig, noise_levels, parameter_width

_STATISTICS_EXAMPLES = 20_000


class Choices(NamedTuple):
    """What the command line may leave open (None): filled in from the data's kind and size."""

    order: str = "raster"
    order_seed: int = 0
    context: str = "made"
    context_width: int = 16
    filters: int = 160
    resnet_blocks: int = 5
    dropout: float = 0.5
    likelihood: str = ""
    components: int = 10
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
    image = data.kind == "image"
    x = data.take(torch.arange(min(len(data), _STATISTICS_EXAMPLES))).double()
    flat = x.flatten(1)
    if image:
        shift, scale = torch.tensor([0.5]), torch.tensor([0.5])
        mean, sd = flat.mean().view(1), flat.std(unbiased=False).view(1)
    else:
        mean, sd = flat.mean(0), flat.std(0, unbiased=False)
        if choices.standardize:
            shift, scale = mean, sd.clamp(min=1e-6)
        else:
            shift, scale = torch.tensor([0.0]), torch.tensor([1.0])
    mean, sd = (mean - shift) / scale, (sd / scale).clamp(min=1e-3)
    discrete = choices.likelihood == "discretized-logistic-mixture"
    if discrete:  # its parameters are stated for [-1, 1] itself
        mean, sd = torch.tensor([0.0]), torch.tensor([1.0])
    site = data.shape[0] if discrete and choices.context == "pixelcnn" else 1
    width = choices.context_width
    if choices.likelihood:
        width = parameter_width(choices.likelihood, choices.components, site)

    dimensions = flat.shape[1]
    widths = (64, 64) if dimensions <= 16 else (512, 512) if dimensions <= 256 else (1024, 1024)
    config = ModelConfig(
        shape=data.shape,
        levels=_levels(choices, image=image, channels=data.shape[0], sd=float(sd.max())),
        order=choices.order,
        order_seed=choices.order_seed,
        context=choices.context,
        context_width=width,
        filters=choices.filters,
        resnet_blocks=choices.resnet_blocks,
        dropout=choices.dropout,
        likelihood=choices.likelihood,
        components=choices.components,
        hidden=widths if choices.hidden is None else choices.hidden,
        residual=choices.residual,
        score_hidden=choices.score_hidden or ((64, 64) if image else (64, 64, 64)),
        annealing=choices.annealing,
        data_shift=tuple(shift.tolist()),
        data_scale=tuple(scale.tolist()),
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
    )
    problem = config.problem()
    if problem:
        raise UsageError(problem)
    return config


def _levels(choices: Choices, *, image: bool, channels: int, sd: float) -> tuple[float, ...]:
    low = choices.sigma_min
    if low is None and choices.likelihood:
        low = 0.0  # the density of the data as they are, unless noise is asked for
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
