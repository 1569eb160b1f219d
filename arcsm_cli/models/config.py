"""The settings that rebuild a model: what a checkpoint holds beside the weights."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.column_names import sound_names
from arcsm_cli.models.order import ORDERS
from arcsm_cli.registry import CONTEXTS

ANNEALINGS = ("joint", "staged", "none")
LIKELIHOODS = ("gaussian", "logistic-mixture", "discretized-logistic-mixture")
# What a checkpoint may ask for: far above any useful model, far below what exhausts a machine.
_MOST_DIMENSIONS = 1 << 20
_MOST_UNITS = 1 << 16
_MOST_FILTERS, _MOST_BLOCKS = 1 << 12, 1 << 6
# Standard deviations and scales whose squares are still normal float32 numbers.
_SMALLEST, _LARGEST = 1e-18, 1e18


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, noise levels and data scale of an AR-CSM or a likelihood-trained model.

    Attributes:
        shape: an example's shape, ``(D,)`` or ``(C, H, W)``.
        order, order_seed: see `arcsm_cli.models.order.variable_order`.
        context: the context network, ``made`` or ``pixelcnn``.
        context_width: C, the size of a context vector; with a likelihood, its parameters a site.
        hidden, residual: MADE's hidden layers.
        filters, resnet_blocks, dropout: of PixelCNN++, see `arcsm_cli.models.pixelcnn.PixelCNN`.
        score_hidden: hidden layers of the score network.
        likelihood: the conditional density of a likelihood-trained model; empty for an AR-CSM.
        components: K, of its mixtures.
        annealing: ``joint`` (one network of all levels), ``staged`` (one a level) or ``none``.
        levels: noise standard deviations, largest first, in the model's scale. For ``joint`` the
            ends of the range and the levels that Langevin visits; for ``none`` one, may be 0.
        data_shift, data_scale: model value = (file value - shift) / scale, one number for images,
            D numbers for vectors.
        mean, sd: of the data in the model's scale, likewise one number or D (preconditioning).
        columns: names of the D columns of vectors, where the training data had names.
    """

    shape: tuple[int, ...]
    levels: tuple[float, ...]
    order: str = "raster"
    order_seed: int = 0
    context: str = "made"
    context_width: int = 16
    hidden: tuple[int, ...] = (1024, 1024)
    residual: bool = False
    filters: int = 160
    resnet_blocks: int = 5
    dropout: float = 0.5
    score_hidden: tuple[int, ...] = (64, 64)
    likelihood: str = ""
    components: int = 10
    annealing: str = "joint"
    data_shift: tuple[float, ...] = (0.0,)
    data_scale: tuple[float, ...] = (1.0,)
    mean: tuple[float, ...] = (0.0,)
    sd: tuple[float, ...] = (1.0,)
    columns: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        """D, the number of scalar variables."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether examples are C x H x W images with file values in [0, 1]."""
        return len(self.shape) == 3

    @property
    def site(self) -> int:
        """S, how many values a context serves: a pixel's channels if modelled together, else 1."""
        together = self.context == "pixelcnn" and self.likelihood == LIKELIHOODS[-1]
        return self.shape[0] if together and self.is_image else 1

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return values if self.columns else {k: v for k, v in values.items() if k != "columns"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Check and build a configuration that came from an untrusted file.

        Raises:
            DamagedInputError: for unknown or missing keys, wrong types, values out of range.
        """
        known = {f.name: f for f in fields(cls)}
        if not isinstance(values, dict) or set(values) - set(known):
            raise DamagedInputError("the checkpoint's config has unknown keys")
        kinds: dict[str, type] = {"residual": bool, "dropout": float}
        whole_numbers = ("order_seed", "context_width", "filters", "resnet_blocks", "components")
        kinds |= dict.fromkeys(whole_numbers, int)
        kinds |= dict.fromkeys(("order", "context", "annealing", "likelihood"), str)
        whole = ("shape", "hidden", "score_hidden")
        clean: dict[str, Any] = {}
        for key, value in values.items():
            kind = kinds.get(key)
            if key == "columns":
                if not isinstance(value, list) or not sound_names(value, len(value)):
                    raise DamagedInputError("the checkpoint's config.columns are not names")
                clean[key] = tuple(value)
            elif kind is None:
                number = int if key in whole else (int, float)
                if not isinstance(value, list) or not all(
                    isinstance(v, number) and not isinstance(v, bool) and abs(v) <= _LARGEST
                    for v in value
                ):
                    raise DamagedInputError(
                        f"the checkpoint's config.{key} is not a list of usable numbers"
                    )
                # Whole numbers where fractions are meant would make integer tensors.
                clean[key] = tuple(value) if key in whole else tuple(map(float, value))
            elif kind is float and type(value) is int and 0 <= value <= 1:
                clean[key] = float(value)
            elif isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
                clean[key] = value
            else:
                raise DamagedInputError(f"the checkpoint's config.{key} has the wrong type")
        try:
            config = cls(**clean)
        except TypeError:
            raise DamagedInputError("the checkpoint's config lacks a key") from None
        problem = config.problem()
        if problem:
            raise DamagedInputError(f"the checkpoint's config cannot be used: {problem}")
        return config

    def problem(self) -> str | None:
        """Return what makes this configuration unusable, or None."""
        units = (*self.hidden, *self.score_hidden, self.context_width)
        per_dimension = (self.data_shift, self.data_scale, self.mean, self.sd)
        numbers = (*self.levels, *itertools.chain(*per_dimension))
        checks = {
            "shape must be D or C, H, W, all at least 1": len(self.shape) in (1, 3)
            and min(self.shape) >= 1
            and self.dimensions <= _MOST_DIMENSIONS,
            "columns must be the names of D columns of vectors": not self.columns
            or self.shape == (len(self.columns),),
            f"annealing is one of {', '.join(ANNEALINGS)}": self.annealing in ANNEALINGS,
            f"order is one of {', '.join(ORDERS)}": self.order in ORDERS,
            "order_seed must be at least 0 and below 2^63": 0 <= self.order_seed < 1 << 63,
            f"context is one of {', '.join(CONTEXTS)}": self.context in CONTEXTS,
            "layer sizes must be between 1 and 65536": min(units) >= 1
            and max(units) <= _MOST_UNITS
            and len(units) <= 256
            and bool(self.score_hidden),
            "residual layers must have one size": not self.residual or len(set(self.hidden)) <= 1,
            "filters, resnet-blocks and components must be between 1 and 4096, 64 and 4096": (
                1 <= self.filters <= _MOST_FILTERS
                and 1 <= self.resnet_blocks <= _MOST_BLOCKS
                and 1 <= self.components <= _MOST_FILTERS
            ),
            "dropout must be at least 0 and below 1": 0 <= self.dropout < 1,
            **self._of_images(),
            **self._of_likelihoods(),
            "data_shift, data_scale, mean and sd need 1 or D values": all(
                len(v) in (1, self.dimensions) for v in per_dimension
            ),
            "levels, data_shift, data_scale, mean and sd must not exceed 1e18": all(
                abs(v) <= _LARGEST for v in numbers
            ),
            "data_scale and sd must be positive, at least 1e-18": all(
                v >= _SMALLEST for v in (*self.data_scale, *self.sd)
            ),
            "levels must be positive, at least 1e-18, and descending": bool(self.levels)
            and all(a > b for a, b in itertools.pairwise(self.levels))
            and (
                self.levels[-1] >= _SMALLEST or (self.annealing == "none" and self.levels[-1] == 0)
            ),
            "annealing none has one level, the others two or more": (
                (len(self.levels) == 1) == (self.annealing == "none")
            ),
        }
        return next((text for text, holds in checks.items() if not holds), None)

    def _of_images(self) -> dict[str, bool]:
        if self.context != "pixelcnn":
            return {}
        return {
            "context pixelcnn takes images of 1 or 3 channels": self.is_image
            and self.shape[0] in (1, 3),
            "context pixelcnn takes images whose height and width are multiples of 4": all(
                side % 4 == 0 for side in self.shape[1:]
            ),
            "context pixelcnn takes the orders raster and reversed": self.order != "random",
        }

    def _of_likelihoods(self) -> dict[str, bool]:
        if not self.likelihood:
            return {}
        discrete = self.likelihood == LIKELIHOODS[-1]
        return {
            f"likelihood is one of {', '.join(LIKELIHOODS)}": self.likelihood in LIKELIHOODS,
            "models with a likelihood have no annealing": self.annealing == "none",
            f"likelihood {LIKELIHOODS[-1]} is of 8-bit images without noise": not discrete
            or (self.is_image and self.levels[-1:] == (0,)),
            f"likelihood {LIKELIHOODS[-1]} is stated for images in [-1, 1] as they are": (
                not discrete
                or (self.data_shift, self.data_scale, self.mean, self.sd)
                == ((0.5,), (0.5,), (0.0,), (1.0,))
            ),
            "context_width must be the number of the likelihood's parameters": (
                self.context_width == parameter_width(self.likelihood, self.components, self.site)
            ),
        }


def parameter_width(likelihood: str, components: int, site: int) -> int:
    """Return how many parameters a likelihood has for a site of ``site`` values.

    Example:
        >>> parameter_width("discretized-logistic-mixture", components=10, site=3)
        100
    """
    if likelihood == "gaussian":
        return 2
    if likelihood == "logistic-mixture":
        return 3 * components
    return components * (1 + 2 * site + site * (site - 1) // 2)


def noise_levels(sigma_max: float, sigma_min: float, count: int) -> tuple[float, ...]:
    """Return a geometric sequence of ``count`` noise levels, largest first (paper, section 3.3).

    Example:
        >>> noise_levels(1.0, 0.25, 3)
        (1.0, 0.5, 0.25)
    """
    if count == 1:
        return (sigma_min,)
    ratio = sigma_min / sigma_max
    steps = [sigma_max * ratio ** (i / (count - 1)) for i in range(count)]
    return (*steps[:-1], sigma_min)
