"""The settings that rebuild a variational autoencoder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.column_names import sound_names
from arcsm_cli.options import option, options_of, problem_of, read_fields
from arcsm_cli.registry import METHODS

TRIANGULAR = METHODS.tagged("triangular")
"""The methods whose gradient needs an encoder that is triangular in the noise."""
NETWORKS = ("mlp", "conv")
DECODERS = ("bernoulli", "gaussian")
_MOST_VALUES, _MOST_UNITS, _MOST_LATENT, _MOST_LAYERS = 1 << 20, 1 << 14, 1 << 10, 16
_SMALLEST, _LARGEST = 1e-18, 1e18


def _network(known: Any) -> str:
    return "conv" if known.given.get("channels") or (known.image and not known.grey) else "mlp"


@dataclass(frozen=True)
class VAEOptions:
    """The networks of a VAE, and how it is trained.

    Attributes:
        method: of `arcsm_cli.registry.METHODS`; it decides the kind of encoder and of score
            estimator.
        latent_dim: L, the size of z.
        network: ``mlp``, or ``conv`` of strided 5 x 5 convolutions.
        hidden: units of the two hidden layers of encoder, decoder and score estimator; of ``conv``
            those of the dense layers.
        channels: of the strided convolutions, from the image on; each halves both sides.
        decoder: ``bernoulli`` (binary data) or ``gaussian`` (one learned deviation).
        context_width, score_hidden: of the conditional score network (csm, ssm-ar).
        particles: samples an example that stein and spectral estimate the score from.
    """

    method: str = option(
        "csm",
        "How the entropy's gradient is had: in closed form, of a Gaussian encoder (elbo); of "
        "implicit encoders by an AR-CSM (csm, ssm-ar), by a joint score network (ssm), or by "
        "kernels (stein, spectral).",
        names=METHODS,
    )
    latent_dim: int = option(
        8,
        "Size of z.",
        metavar="N",
        least=1,
        most=_MOST_LATENT,
        follows=lambda known: 32 if known.network == "conv" else 8,
        shown="8; conv: 32",
    )
    network: str = option(
        "mlp",
        "Encoder and decoder: perceptrons, or strided 5 x 5 convolutions.",
        choices=NETWORKS,
        follows=_network,
        shown="conv for colour images",
    )
    hidden: tuple[int, ...] = option(
        (256, 256),
        "Two hidden layers of encoder, decoder and score estimator.",
        metavar="N,N",
        fewest=1,
    )
    channels: tuple[int, ...] = option(
        (),
        "Of the convolutions; each halves the image's sides.",
        metavar="N,N,...",
        follows=lambda known: (64, 128, 256) if known.network == "conv" else (),
        shown="64,128,256",
    )
    decoder: str = option(
        "bernoulli",
        "p(x|z): binary, the data being binarised afresh at each draw with their values as "
        "probabilities; or normal with one learned deviation.",
        choices=DECODERS,
        follows=lambda known: "bernoulli" if known.grey else "gaussian",
        shown="bernoulli for grey images",
    )
    context_width: int = option(
        16,
        "Context vectors of triangular encoder and AR-CSM.",
        metavar="N",
        least=1,
        needs=(METHODS, "triangular"),
    )
    score_hidden: tuple[int, ...] = option(
        (64, 64),
        "Hidden layers of the conditional score network.",
        metavar="N,N,...",
        fewest=1,
        needs=(METHODS, "triangular"),
    )
    particles: int = option(
        100,
        "Draws of z an example that stein and spectral take.",
        metavar="N",
        least=2,
        most=4096,
        needs=(METHODS, "particles"),
    )


@dataclass(frozen=True, kw_only=True)
class VAEConfig(VAEOptions):
    """Architecture, method and data scale of a VAE.

    Attributes:
        shape: an example's shape, ``(D,)`` or ``(C, H, W)``.
        data_shift, data_scale: model value = (file value - shift) / scale, one number or D.
        columns: names of the D columns of vectors, where the training data had names.
        others: see `VAEOptions`.
    """

    shape: tuple[int, ...]
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
        where = "the checkpoint's config"
        if not isinstance(values, dict) or values.keys() | {"columns"} != {
            f.name for f in fields(cls)
        }:
            raise DamagedInputError(f"{where} does not have the keys of a VAE's")
        config = cls(**read_fields(cls, values, where))
        problem = config.problem()
        if problem:
            raise DamagedInputError(f"{where} cannot be used: {problem}")
        return config

    def problem(self) -> str | None:
        """Return what makes this configuration unusable, or None."""
        for name, known in options_of(VAEOptions).items():
            if wanted := problem_of(name, known, getattr(self, name)):
                return f"{name} must be {wanted}"
        units = (*self.hidden, *self.score_hidden, *self.channels, self.context_width)
        scales = (self.data_shift, self.data_scale)
        shaped = len(self.shape) in (1, 3) and min(self.shape) >= 1
        convolved = self.network == "conv"
        checks = {
            "shape must be D or C, H, W, all at least 1": shaped
            and self.dimensions <= _MOST_VALUES,
            "columns must be the names of D columns of vectors": not self.columns
            or (len(self.shape) == 1 and sound_names(self.columns, self.shape[0])),
            "hidden must be two layers": len(self.hidden) == 2,
            f"layer sizes must be between 1 and {_MOST_UNITS}": min(units) >= 1
            and max(units) <= _MOST_UNITS
            and 1 <= len(self.score_hidden) <= _MOST_LAYERS,
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
