"""The settings that rebuild a variational autoencoder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.column_names import sound_names

METHODS = ("elbo", "csm", "ssm", "ssm-ar", "stein", "spectral")
TRIANGULAR = ("csm", "ssm-ar")
"""The methods whose gradient needs an encoder that is triangular in the noise."""
NETWORKS = ("mlp", "conv")
DECODERS = ("bernoulli", "gaussian")
_MOST_VALUES, _MOST_UNITS, _MOST_LATENT, _MOST_LAYERS = 1 << 20, 1 << 14, 1 << 10, 16
_SMALLEST, _LARGEST = 1e-18, 1e18


@dataclass(frozen=True)
class VAEConfig:
    """Architecture, method and data scale of a VAE.

    Attributes:
        shape: an example's shape, ``(D,)`` or ``(C, H, W)``.
        latent_dim: L, the size of z.
        method: how it was trained, of `METHODS`; it decides the kind of encoder and of score
            estimator.
        network: ``mlp``, or ``conv`` of strided 5 x 5 convolutions.
        hidden: units of the two hidden layers of encoder, decoder and score estimator; of ``conv``
            those of the dense layers.
        channels: of the strided convolutions, from the image on; each halves both sides.
        decoder: ``bernoulli`` (binary data) or ``gaussian`` (one learned deviation).
        context_width, score_hidden: of the conditional score network (csm, ssm-ar).
        particles: samples an example that stein and spectral estimate the score from.
        data_shift, data_scale: model value = (file value - shift) / scale, one number or D.
        columns: names of the D columns of vectors, where the training data had names.
    """

    shape: tuple[int, ...]
    latent_dim: int
    method: str = "csm"
    network: str = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = ()
    decoder: str = "bernoulli"
    context_width: int = 16
    score_hidden: tuple[int, ...] = (64, 64)
    particles: int = 100
    data_shift: tuple[float, ...] = (0.0,)
    data_scale: tuple[float, ...] = (1.0,)
    columns: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        """D, the number of values in an example."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether examples are C x H x W images with file values in [0, 1]."""
        return len(self.shape) == 3

    @property
    def coarse(self) -> tuple[int, int]:
        """Height and width after the strided convolutions."""
        return self.shape[1] >> len(self.channels), self.shape[2] >> len(self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return values if self.columns else {k: v for k, v in values.items() if k != "columns"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VAEConfig:
        """Check and build a configuration that came from an untrusted file.

        Raises:
            DamagedInputError: for unknown or missing keys, wrong types, values out of range.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.keys() | {"columns"} != known:
            raise DamagedInputError("the checkpoint's config does not have the keys of a VAE's")
        clean: dict[str, Any] = {}
        for key, value in values.items():
            kind = _KINDS[key]
            if key == "columns":
                sound = isinstance(value, list) and sound_names(value, len(value))
                value = tuple(value) if sound else None
            elif isinstance(kind, tuple):
                sound = isinstance(value, list) and all(
                    type(v) in kind and abs(v) <= _LARGEST for v in value
                )
                value = tuple(map(kind[-1], value)) if sound else None
            if value is None or type(value) not in (kind, tuple):
                raise DamagedInputError(f"the checkpoint's config.{key} has the wrong type")
            clean[key] = value
        config = cls(**clean)
        problem = config.problem()
        if problem:
            raise DamagedInputError(f"the checkpoint's config cannot be used: {problem}")
        return config

    def problem(self) -> str | None:
        """Return what makes this configuration unusable, or None."""
        units = (*self.hidden, *self.score_hidden, *self.channels, self.context_width)
        scales = (self.data_shift, self.data_scale)
        shaped = len(self.shape) in (1, 3) and min(self.shape) >= 1
        convolved = self.network == "conv"
        checks = {
            "shape must be D or C, H, W, all at least 1": shaped
            and self.dimensions <= _MOST_VALUES,
            "columns must be the names of D columns of vectors": not self.columns
            or self.shape == (len(self.columns),),
            f"latent-dim must be between 1 and {_MOST_LATENT}": (
                1 <= self.latent_dim <= _MOST_LATENT
            ),
            f"method is one of {', '.join(METHODS)}": self.method in METHODS,
            f"network is one of {', '.join(NETWORKS)}": self.network in NETWORKS,
            f"decoder is one of {', '.join(DECODERS)}": self.decoder in DECODERS,
            "hidden must be two layers": len(self.hidden) == 2,
            f"layer sizes must be between 1 and {_MOST_UNITS}": min(units) >= 1
            and max(units) <= _MOST_UNITS
            and 1 <= len(self.score_hidden) <= _MOST_LAYERS,
            "particles must be between 2 and 4096": 2 <= self.particles <= 4096,
            "channels are for the network conv, which needs at least one": (
                convolved == bool(self.channels) and len(self.channels) <= _MOST_LAYERS
            ),
            "data_shift and data_scale need 1 or D values": all(
                len(v) in (1, self.dimensions) for v in scales
            ),
            "data_shift and data_scale must not exceed 1e18": all(
                abs(v) <= _LARGEST for scale in scales for v in scale
            ),
            "data_scale must be positive, at least 1e-18": all(
                v >= _SMALLEST for v in self.data_scale
            ),
        }
        found = next((text for text, holds in checks.items() if not holds), None)
        if found is not None or not convolved:
            return found
        if not self.is_image:
            return "the network conv takes images"
        if any(side % (1 << len(self.channels)) for side in self.shape[1:]):
            height, width = self.shape[1:]
            return (
                f"{len(self.channels)} strided convolutions need sides that are multiples of "
                f"{1 << len(self.channels)}, not {height} x {width}: use --resize"
            )
        return None


_WHOLE, _NUMBERS = (int,), (int, float)
_KINDS: dict[str, Any] = {
    "shape": _WHOLE,
    "latent_dim": int,
    "method": str,
    "network": str,
    "hidden": _WHOLE,
    "channels": _WHOLE,
    "decoder": str,
    "context_width": int,
    "score_hidden": _WHOLE,
    "particles": int,
    "data_shift": _NUMBERS,
    "data_scale": _NUMBERS,
    "columns": (str,),
}
