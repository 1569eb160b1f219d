"""The settings that rebuild a model: what a checkpoint holds beside the weights."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace
from typing import Any

from arcsm_cli.data.conditions import Conditions, problem, read_conditions
from arcsm_cli.errors import DamagedInputError, UnavailableError
from arcsm_cli.io.column_names import sound_names
from arcsm_cli.models.architecture import (
    ANY,
    DISCRETIZED,
    FRAME_WIDTH,
    Architecture,
    Conditionals,
    Quantiles,
    parameter_width,
    site_of,
)
from arcsm_cli.models.networks import NetworkOptions
from arcsm_cli.options import default_of, options_of, problem_of, read_fields, stored_options
from arcsm_cli.registry import CONTEXTS, LIKELIHOODS

# What a checkpoint may ask for: far above any useful model, far below what exhausts a machine.
_MOST_DIMENSIONS = 1 << 20
# Standard deviations and scales whose squares are still normal float32 numbers.
_SMALLEST, _LARGEST = 1e-18, 1e18
# Files once held the options of all context networks, whichever was chosen.
_OF_OLD_FILES = {"hidden", "residual", "filters", "resnet_blocks", "dropout"}


@dataclass(frozen=True, init=False, kw_only=True)
class ModelConfig(Architecture, Conditionals):
    """Architecture, noise levels and data scale of an AR-CSM or a likelihood-trained model.

    The context network's own options may be given by their names, ``hidden=(8, 8)``, or all
    together as ``network``; those of other networks are of no account.

    Attributes:
        shape: an example's shape, ``(D,)`` or ``(C, H, W)``.
        levels: noise standard deviations, largest first, in the model's scale. For ``joint`` the
            ends of the range and the levels that Langevin visits; for ``none`` one, may be 0.
        data_shift, data_scale: model value = (file value - shift) / scale, one number for images,
            D numbers for vectors.
        mean, sd: of the data in the model's scale, likewise one number or D (preconditioning).
        columns: names of the D columns of vectors, where the training data had names.
        given: what examples are conditioned on; empty for nothing.
        quantiles: of a distilled model, else None.
        others: see `Architecture` and `Conditionals`.
    """

    network: NetworkOptions
    shape: tuple[int, ...]
    levels: tuple[float, ...]
    data_shift: tuple[float, ...]
    data_scale: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    columns: tuple[str, ...]
    given: Conditions
    quantiles: Quantiles | None

    def __init__(self, shape: tuple[int, ...], levels: tuple[float, ...], **values: Any) -> None:
        context = values.get("context", default_of(Architecture, "context"))
        kind = CONTEXTS.options(context) if context in CONTEXTS else NetworkOptions
        own = {name: values.pop(name) for name in options_of(kind) if name in values}
        network = replace(values.pop("network", None) or kind(), **own)
        given = _DEFAULTS | values | {"shape": shape, "levels": levels, "network": network}
        for field in fields(self):
            value = given.pop(field.name) if field.name in given else field.default
            object.__setattr__(self, field.name, value)
        others = {name for part in CONTEXTS for name in options_of(CONTEXTS.options(part))}
        if unknown := given.keys() - others:
            raise TypeError(f"a model has no {', '.join(unknown)}")

    @property
    def dimensions(self) -> int:
        """D, the number of scalar variables."""
        return math.prod(self.shape)

    @property
    def has_frames(self) -> bool:
        """Whether contexts end with frames."""
        return self.frames != "none"

    @property
    def in_noise(self) -> bool:
        """Whether the score network reads values in units of the noise."""
        return self.score_input == "noise"

    def of_contexts(self) -> ModelConfig:
        """Return the settings that the context network is built by: it gives the frames too."""
        extra = FRAME_WIDTH if self.has_frames else 0
        return replace(self, context_width=self.context_width + extra, frames="none")

    @property
    def is_image(self) -> bool:
        """Whether examples are C x H x W images with file values in [0, 1]."""
        return len(self.shape) == 3

    @property
    def site(self) -> int:
        """S, how many values a context serves: a pixel's channels if modelled together, else 1."""
        return site_of(self.context, self.likelihood, self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, the network's own options among the others."""
        own = stored_options(self.network)
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "network"}
        del values["quantiles"]
        if not self.columns:
            del values["columns"]
        given = values.pop("given")
        if given:
            values["given"] = tuple(condition.to_json() for condition in given)
        if self.quantiles is not None:
            own = stored_options(self.quantiles) | own
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in (values | own).items()}
        origin = CONTEXTS.part(self.context).origin
        if self.likelihood:
            origin = origin or LIKELIHOODS.part(self.likelihood).origin
        return found | ({"plugin": origin} if origin else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Check and build a configuration that came from an untrusted file.

        Raises:
            DamagedInputError: for unknown or missing keys, wrong types, values out of range.
            UnavailableError: its context network is of a plugin that is not there.
        """
        where = "the checkpoint's config"
        if not isinstance(values, dict):
            raise DamagedInputError(f"{where} is not an object")
        values = dict(values)
        context = values.get("context", default_of(Architecture, "context"))
        _check_plugin(context, values.get("likelihood", ""), values.pop("plugin", ""))
        kind = CONTEXTS.options(context) if context in CONTEXTS else NetworkOptions
        own = {name for name, known in options_of(kind).items() if known.stored}
        network = read_fields(kind, {k: v for k, v in values.items() if k in own}, where)
        spline = {k: v for k, v in values.items() if k in options_of(Quantiles)}
        quantiles = Quantiles(**read_fields(Quantiles, spline, where)) if spline else None
        known = own | (_OF_OLD_FILES - own) | spline.keys()
        rest = {k: v for k, v in values.items() if k not in known}
        if {"network", "quantiles"} & rest.keys():
            raise DamagedInputError(f"{where} has unknown keys")
        given = read_conditions(rest.pop("given", []), f"{where}.given")
        parts: dict[str, Any] = {"network": kind(**network), "quantiles": quantiles, "given": given}
        try:
            config = cls(**read_fields(cls, rest, where) | parts)
        except TypeError:
            raise DamagedInputError(f"{where} lacks a key") from None
        problem = config.problem()
        if problem:
            raise DamagedInputError(f"{where} cannot be used: {problem}")
        return config

    def problem(self) -> str | None:
        """Return what makes this configuration unusable, or None."""
        for group in filter(None, (self, self.network, self.quantiles)):
            for name, known in options_of(group).items():
                value = getattr(group, name)
                wanted = problem_of(name, known, value)
                if wanted and not (name == "likelihood" and not value):
                    return f"{name} must be {wanted}"
        if (wrong := problem(self.given)) is not None:
            return wrong
        checks = {
            "shape must be D or C, H, W, all at least 1": len(self.shape) in (1, 3)
            and min(self.shape) >= 1
            and self.dimensions <= _MOST_DIMENSIONS,
            "columns must be the names of D columns of vectors": not self.columns
            or (len(self.shape) == 1 and sound_names(self.columns, self.shape[0])),
            "frames are of models without a likelihood": not (self.has_frames and self.likelihood),
            "linear frames follow one order; order any takes contexts or none": not (
                self.frames == "linear" and self.order == ANY
            ),
            "score_input noise is of joint annealing": (
                self.score_input == "spread" or self.annealing == "joint"
            ),
            "quantiles are of models without a likelihood": not (
                self.quantiles and self.likelihood
            ),
            **self._of_likelihoods(),
            **self._of_levels(),
            **self._of_scales(),
        }
        return next((text for text, holds in checks.items() if not holds), None) or self._misfit()

    def _misfit(self) -> str | None:
        """Return what the context network has against the other settings, or None."""
        name = f"context {self.context}"
        if (want := self.network.wants(self.shape)) is not None:
            return f"{name} takes {want.taken}"
        if self.order not in self.network.orders:
            return f"{name} takes the orders {' and '.join(self.network.orders)}"
        if self.given and not CONTEXTS.has(self.context, "given"):
            return f"{name} takes no conditions"
        return self.network.problem()

    def _of_levels(self) -> dict[str, bool]:
        silent = self.annealing == "none" and self.levels[-1:] == (0,)
        return {
            "levels must be positive, at least 1e-18, and descending": bool(self.levels)
            and all(a > b for a, b in itertools.pairwise(self.levels))
            and (self.levels[-1] >= _SMALLEST or silent),
            "annealing none has one level, the others two or more": (
                (len(self.levels) == 1) == (self.annealing == "none")
            ),
        }

    def _of_scales(self) -> dict[str, bool]:
        scales = [getattr(self, name) for name in _SCALE]
        return {
            "data_shift, data_scale, mean and sd need 1 or D values": all(
                len(v) in (1, self.dimensions) for v in scales
            ),
            "levels, data_shift, data_scale, mean and sd must not exceed 1e18": all(
                abs(v) <= _LARGEST for v in (*self.levels, *itertools.chain(*scales))
            ),
            "data_scale and sd must be positive, at least 1e-18": all(
                v >= _SMALLEST for v in (*self.data_scale, *self.sd)
            ),
        }

    def _of_likelihoods(self) -> dict[str, bool]:
        if not self.likelihood:
            return {}
        discrete = self.likelihood == DISCRETIZED
        return {
            "models with a likelihood have no annealing": self.annealing == "none",
            f"likelihood {DISCRETIZED} is of 8-bit images without noise": not discrete
            or (self.is_image and self.levels[-1:] == (0,)),
            f"likelihood {DISCRETIZED} is stated for images in [-1, 1] as they are": (
                not discrete
                or (self.data_shift, self.data_scale, self.mean, self.sd)
                == ((0.5,), (0.5,), (0.0,), (1.0,))
            ),
            "context_width must be the number of the likelihood's parameters": (
                self.context_width == parameter_width(self.likelihood, self.components, self.site)
            ),
        }


_SCALE: dict[str, tuple[float, ...]] = {
    "data_shift": (0.0,),
    "data_scale": (1.0,),
    "mean": (0.0,),
    "sd": (1.0,),
}
_DEFAULTS: dict[str, Any] = {**_SCALE, "columns": (), "given": (), "quantiles": None}


def _check_plugin(context: Any, likelihood: Any, plugin: Any) -> None:
    """Refuse a context network or a likelihood of a plugin that has not been given."""
    texts = {"context": context, "likelihood": likelihood, "plugin": plugin}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise DamagedInputError(f"the checkpoint's config.{key} has the wrong type")
    for part, name, known in (
        ("context network", context, CONTEXTS),
        ("likelihood", likelihood, LIKELIHOODS),
    ):
        if plugin and name and name not in known:
            raise UnavailableError(
                f"its {part} {name[:60]!r} is of a plugin: give --plugin {plugin[:200]}"
            )


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
