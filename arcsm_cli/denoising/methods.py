"""From a command line's words to a corruption and to what undoes it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.arrays import is_npy, read_npy
from arcsm_cli.data.decoding import Picture
from arcsm_cli.data.images import load_images
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.stream import Examples
from arcsm_cli.denoising.corruption import Corruption, Gaussian, Mask, SaltPepper
from arcsm_cli.denoising.restorers import Denoiser, Task
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, local_input
from arcsm_cli.models.architecture import ANY
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.options import check_parts
from arcsm_cli.parts import any_of
from arcsm_cli.registry import RULES

logger = logging.getLogger(__name__)

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
        source: a path or ``-``, of an .npy file of H x W, C x H x W or D numbers, of which those
            other than zero are hidden; or an image, whose pixels of 128 or more are.
        shape: of an example.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is damaged or of another shape.
    """
    with local_input(source) as path:
        if is_npy(path):
            hidden = torch.from_numpy(np.ascontiguousarray(read_npy(path) != 0))
        else:
            image = load_images([Picture.at(path)], DataOptions(), source).values[0]
            hidden = image.amax(0) >= 128
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


class Settings:
    """What the command line may leave open (None).

    Arguments:
        method: of `arcsm_cli.registry.RULES`.
        sigma: noise level to restore at, in the model's scale.
        own: options of the method's own.
    """

    def __init__(self, method: str | None = None, sigma: float | None = None, **own: Any) -> None:
        self.method, self.sigma = method, sigma
        self.own = {name: value for name, value in own.items() if value is not None}


def noise_to_expect(
    model: ARCSM, corruption: Corruption | None, settings: Settings, examples: Examples
) -> float | None:
    """Return the noise level that images seem to have, if nothing else says it, else None.

    In the model's scale, by the first 256 of the examples.
    """
    if corruption is not None or settings.sigma is not None or not model.config.is_image:
        return None
    # Twice: the model sees [0, 1] as [-1, 1].
    return 2 * estimate_sigma(next(iter(examples.batches(256))).x)


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
    needs = "masks" if isinstance(corruption, Mask) else ""
    if isinstance(corruption, SaltPepper) and joint:
        needs = "salt-pepper"
    free = needs == "masks" and model.config.order == ANY
    default = RULES.tagged("any-order")[0] if free else _default(joint, needs)
    method = RULES.check(settings.method) if settings.method else default
    masked = needs == "masks"
    _check(model, method, masked, settings)
    if masked or RULES.has(method, needs):
        if settings.sigma is not None:
            reason = "a mask has no noise level"
            if not masked:
                reason = f"{method} take salt-pepper noise for what it is"
            raise UsageError(f"--sigma: {reason}")
        denoiser: Denoiser = RULES[method](Task(model, corruption, 0.0, -1), **settings.own)
        return replace(denoiser, method=method)
    sigma, level = _noise_level(model, corruption, settings.sigma, estimated)
    denoiser = RULES[method](Task(model, corruption, sigma, level), **settings.own)
    return replace(denoiser, method=method, sigma=sigma, level=level)


def _default(joint: bool, needs: str) -> str:
    """Return the method that knows the corruption, or else the default one for the model."""
    if needs:
        return RULES.tagged(needs)[0]
    return next(name for name in RULES.tagged("default") if RULES.has(name, "joint") == joint)


def _check(model: ARCSM, method: str, masked: bool, settings: Settings) -> None:
    if model.sigma_min == 0:
        raise UsageError("the model was trained without noise: it knows no noise to take off")
    if masked and not RULES.has(method, "masks"):
        raise UsageError(
            f"--method {method} does not weigh hidden values by the known ones that come later: "
            f"masks take --method {any_of(RULES.tagged('masks'))}"
        )
    if RULES.has(method, "any-order") and not (masked and model.config.order == ANY):
        raise UsageError(f"--method {method} is for masks, of models trained with --order any")
    if RULES.has(method, "joint") and model.config.annealing != "joint" and not masked:
        fitting = [name for name in RULES if not RULES.has(name, "joint")]
        raise UsageError(
            f"--method {method} needs a model of joint annealing, this one is "
            f"{model.config.annealing}: use {any_of(fitting)}"
        )
    check_parts(settings.own, RULES, method)


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
