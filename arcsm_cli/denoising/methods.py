"""From a command line's words to a corruption and to what undoes it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.arrays import read_npy
from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import DataOptions
from arcsm_cli.data.decoding import Picture
from arcsm_cli.data.images import load_images
from arcsm_cli.denoising.corruption import Corruption, Gaussian, Mask, SaltPepper
from arcsm_cli.denoising.rules import (
    BLUR,
    AnnealedLangevin,
    Flow,
    MaskPosterior,
    Posterior,
    Rule,
    SaltPepperPosterior,
    Tweedie,
)
from arcsm_cli.denoising.single_step import parallel
from arcsm_cli.denoising.walk import restore
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.langevin import Langevin

logger = logging.getLogger(__name__)

METHODS = ("single-step", "sequential", "langevin", "ode", "particles")

Tick = Callable[[int], None]

_FAR = math.log(1.5)  # a level as far as this from the noise is worth a word


def parse_corruption(text: str, model: ARCSM) -> Corruption:
    """Read ``gaussian:S``, ``salt-pepper:P`` or ``mask:FILE``.

    Raises:
        UsageError: it is none of these, the number is out of range, or it does not fit the model.
        MissingInputError, DamagedInputError: of the file.
    """
    kind, _, value = text.partition(":")
    image = model.config.is_image
    if kind == "mask" and value:
        return Mask(read_mask(value, model.config.shape))
    number = _number(value)
    if kind == "gaussian" and number is not None and number > 0:
        # Model value = (file value - shift) / scale: one unit of the model is `scale` of the file.
        return Gaussian(number, torch.tensor(model.config.data_scale))
    if kind == "salt-pepper" and number is not None and 0 < number < 1:
        if not image:
            raise UsageError("--corrupt salt-pepper is of images")
        return SaltPepper(number)
    raise UsageError(
        f"--corrupt {text}: expected gaussian:S with S above 0, salt-pepper:P with P between 0 and "
        "1, or mask:FILE"
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_mask(source: str, shape: tuple[int, ...]) -> Tensor:
    """Return which values of an example are hidden, bool of the given shape.

    Arguments:
        source: an .npy file of H x W, C x H x W or D numbers, of which those other than zero are
            hidden; or an image, whose pixels of 128 or more are.
        shape: of an example.

    Raises:
        MissingInputError: there is no such file.
        DamagedInputError: it is damaged or of another shape.
    """
    path = Path(source)
    if not os.path.isfile(path):
        raise MissingInputError(f"{label(source)}: no such mask")
    if path.suffix == ".npy":
        array = read_npy(path)
        hidden = torch.from_numpy(np.ascontiguousarray(array != 0))
    else:
        hidden = load_images([Picture.at(path)], DataOptions(), source)[0][0].amax(0) >= 128
    if hidden.shape not in (shape, shape[1:]) or hidden.ndim == 0:
        found, wanted = (" x ".join(map(str, s)) for s in (hidden.shape, shape))
        raise DamagedInputError(f"{label(source)}: the mask is {found}, the examples are {wanted}")
    return hidden.expand(shape).clone()


def estimate_sigma(x: Tensor) -> float:
    """Return the noise's standard deviation in images x (B, C, H, W), in their own units.

    The median absolute difference between the two diagonals of neighbouring 2 x 2 pixels: smooth
    parts cancel in it, and edges are too few to move a median (Donoho & Johnstone 1994). Of small
    pictures that are mostly edges it is too large, the more so the less the noise. Images one
    pixel high or wide give NaN.
    """
    diagonal = x[..., :-1, :-1] + x[..., 1:, 1:] - x[..., :-1, 1:] - x[..., 1:, :-1]
    return float(diagonal.abs().median()) / (2 * 0.6745)


class Settings(NamedTuple):
    """What the command line may leave open (None).

    Attributes:
        method: of `METHODS`.
        sigma: noise level to restore at, in the model's scale.
        steps: of the ODE, or Langevin steps a level.
        particles, lag: of particles.
        draw: one particle instead of their mean.
    """

    method: str | None = None
    sigma: float | None = None
    steps: int | None = None
    particles: int | None = None
    lag: int | None = None
    draw: bool | None = None


@dataclass(frozen=True)
class Denoiser:
    """A method, ready for batches.

    Attributes:
        method: its name.
        sigma: the noise level it restores at, None where none is involved.
        rule: how a scalar is restored; None restores all at once.
    """

    model: ARCSM
    method: str
    sigma: float | None
    level: int
    rule: Rule | None
    particles: int = 1
    lag: int = 0
    draw: bool = False

    def __call__(self, observed: Batch | Tensor, noise: SampleNoise, tick: Tick) -> Tensor:
        """Restore sorted examples (B, D) with their own random numbers; (B, D)."""
        if self.rule is None:
            assert self.sigma is not None
            tick(self.model.config.dimensions)
            return parallel(self.model, observed, self.sigma, self.level)
        return restore(
            self.model,
            observed,
            self.rule,
            noise,
            particles=self.particles,
            lag=self.lag,
            draw=self.draw,
            tick=tick,
        )


def choose_denoiser(
    model: ARCSM, corruption: Corruption | None, settings: Settings, estimated: float | None = None
) -> Denoiser:
    """Return what undoes a corruption.

    Arguments:
        corruption: what was done to the data; None if that is unknown.
        settings: the choices made; the noise level is that of normal noise, for salt and pepper
            one of the same mean square, for unknown corruption ``estimated``.
        estimated: standard deviation in the data, in the model's scale.

    Raises:
        UsageError: the choices do not fit the model, the corruption or one another.
    """
    joint = model.config.annealing == "joint"
    masked = isinstance(corruption, Mask)
    method = settings.method or _default(joint, corruption)
    _check(model, method, masked, settings)
    population = _population(model, settings, draw=masked)
    if masked:
        assert isinstance(corruption, Mask)
        hidden = corruption.hidden.flatten()[model.order.cpu()].to(model.mean.device)
        blur = max(BLUR, model.sigma_min) if joint else model.sigma_min
        rule: Rule = MaskPosterior(hidden, model.sigma_min, blur)
        return Denoiser(model, method, None, -1, rule, *population)
    if isinstance(corruption, SaltPepper) and method == "particles":
        if settings.sigma is not None:
            raise UsageError("--sigma: particles take salt-pepper noise for what it is")
        rule = SaltPepperPosterior(corruption.probability, model.sigma_min)
        return Denoiser(model, method, None, -1, rule, *population)
    sigma, level = _noise_level(model, corruption, settings.sigma, estimated)
    if method == "single-step":
        return Denoiser(model, method, sigma, level, None)
    if method == "sequential":
        return Denoiser(model, method, sigma, level, Tweedie(sigma, level))
    if method == "ode":
        return Denoiser(model, method, sigma, -1, Flow(sigma, model.sigma_min, settings.steps or 8))
    if method == "particles":
        rule = Posterior(sigma, model.sigma_min)
        return Denoiser(model, method, sigma, -1, rule, *population)
    # From the first level that is no larger than the noise: more would forget the observation.
    first = next(i for i, s in enumerate((*model.levels, 0.0)) if s <= sigma * 1.001)
    first = min(first, len(model.levels) - 1)
    langevin = Langevin(model.levels[first:], settings.steps or 20)
    return Denoiser(model, method, sigma, -1, AnnealedLangevin(langevin, first))


def _default(joint: bool, corruption: Corruption | None) -> str:
    if isinstance(corruption, Mask):
        return "particles"
    if not joint:
        return "sequential"
    return "particles" if isinstance(corruption, SaltPepper) else "ode"


def _check(model: ARCSM, method: str, masked: bool, settings: Settings) -> None:
    joint = model.config.annealing == "joint"
    if model.sigma_min == 0:
        raise UsageError("the model was trained without noise: it knows no noise to take off")
    if masked and method != "particles":
        raise UsageError(
            f"--method {method} does not weigh hidden values by the known ones that come later: "
            "masks take --method particles"
        )
    if method in ("ode", "particles") and not joint and not masked:
        raise UsageError(
            f"--method {method} needs a model of joint annealing, this one is "
            f"{model.config.annealing}: use single-step, sequential or langevin"
        )
    if masked and settings.sigma is not None:
        raise UsageError("--sigma: a mask has no noise level")
    if settings.steps is not None and method not in ("ode", "langevin"):
        raise UsageError(f"--steps does not apply to --method {method}")
    for option in ("particles", "lag", "draw"):
        if getattr(settings, option) is not None and method != "particles":
            raise UsageError(f"--{option} is for --method particles, this is {method}")
    if settings.lag is not None and (masked if settings.draw is None else settings.draw):
        raise UsageError("--lag is of --average: a draw is decided when all is known")


def _population(model: ARCSM, settings: Settings, *, draw: bool) -> tuple[int, int, bool]:
    """Return how many particles, how many scalars later a scalar is decided, and whether by draw.

    Three rows later, unless told otherwise. Vectors are so cheap that they can have more particles.
    """
    shape = model.config.shape
    rows = 3 * shape[0] * shape[2] if model.config.is_image else math.prod(shape)
    lag = rows if settings.lag is None else settings.lag
    particles = settings.particles or (16 if model.config.is_image else 64)
    draw = draw if settings.draw is None else settings.draw
    return particles, min(lag, model.config.dimensions), draw


def _noise_level(
    model: ARCSM, corruption: Corruption | None, given: float | None, estimated: float | None
) -> tuple[float, int]:
    """Return the noise level to restore at, and its stage."""
    if given is not None:
        sigma = given
    elif isinstance(corruption, Gaussian):
        sigma = corruption.sigma
    elif isinstance(corruption, SaltPepper):
        # E[(v - x)^2] with v = -1 or 1 and the data's mean and variance.
        mean, sd = float(model.mean.mean()), float(model.sd.mean())
        sigma = math.sqrt(corruption.probability * (1 + mean**2 + sd**2))
    elif estimated is not None and not math.isnan(estimated):
        sigma = max(estimated, model.sigma_min)
    else:
        raise UsageError(
            "--sigma or --corrupt is needed: the noise of vectors, and of images one pixel wide, "
            "cannot be estimated"
        )
    if model.config.annealing == "joint":
        if (given is None and corruption is None) or isinstance(corruption, SaltPepper):
            sigma = min(max(sigma, model.sigma_min), model.levels[0])
        if not model.sigma_min * 0.999 <= sigma <= model.levels[0]:
            option = "--sigma" if given is not None else "--corrupt gaussian"
            raise UsageError(
                f"{option}: {sigma:g} is outside the model's noise levels, {model.sigma_min:g} to "
                f"{model.levels[0]:g}"
            )
        return max(sigma, model.sigma_min), -1
    distances = [abs(math.log(level / sigma)) for level in model.levels]
    nearest = distances.index(min(distances))
    if distances[nearest] > _FAR:
        logger.warning(
            "the noise is of sigma %g; the model's nearest level, which is used, is %g",
            sigma,
            model.levels[nearest],
        )
    return model.levels[nearest], nearest
