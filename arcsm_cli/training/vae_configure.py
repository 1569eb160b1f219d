"""From data and a few choices to a VAE's configuration."""

from __future__ import annotations

from typing import NamedTuple

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.models.vae_config import TRIANGULAR, VAEConfig
from arcsm_cli.training.scaling import scaling_of

_CHANNELS = (64, 128, 256)


class VAEChoices(NamedTuple):
    """What the command line may leave open (None): filled in from the data's kind and size."""

    method: str = "csm"
    latent_dim: int | None = None
    network: str | None = None
    hidden: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    decoder: str | None = None
    context_width: int | None = None
    score_hidden: tuple[int, ...] | None = None
    particles: int | None = None


def vae_config(data: Dataset, choices: VAEChoices) -> VAEConfig:
    """Return the configuration of a VAE for ``data``.

    Grey images are binarised for a Bernoulli decoder; colour images go to [-1, 1] and vectors to
    mean 0 and variance 1 for a Gaussian one.

    Raises:
        UsageError: if the choices do not fit the data or one another.
    """
    _check(data, choices)
    image = data.kind == "image"
    grey = image and data.shape[0] == 1
    decoder = choices.decoder or ("bernoulli" if grey else "gaussian")
    network = choices.network or ("conv" if choices.channels or (image and not grey) else "mlp")
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    if decoder == "gaussian":
        shift, scale, *_ = scaling_of(data, standardize=True)
    config = VAEConfig(
        shape=data.shape,
        latent_dim=choices.latent_dim or (32 if network == "conv" else 8),
        method=choices.method,
        network=network,
        hidden=choices.hidden or (256, 256),
        channels=(choices.channels or _CHANNELS) if network == "conv" else (),
        decoder=decoder,
        context_width=choices.context_width or 16,
        score_hidden=choices.score_hidden or (64, 64),
        particles=choices.particles or 100,
        data_shift=shift,
        data_scale=scale,
        columns=data.columns or (),
    )
    problem = config.problem()
    if problem:
        raise UsageError(problem)
    return config


def _check(data: Dataset, choices: VAEChoices) -> None:
    """Refuse choices that the method, the network or the data have no use for."""
    method = choices.method
    if method not in TRIANGULAR:
        for option in ("context_width", "score_hidden"):
            if getattr(choices, option) is not None:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} is for --method {' or '.join(TRIANGULAR)}")
    if choices.particles is not None and method not in ("stein", "spectral"):
        raise UsageError("--particles is for --method stein or spectral")
    if choices.channels is not None and choices.network == "mlp":
        raise UsageError("--channels is for --network conv")
    if choices.hidden is not None and len(choices.hidden) != 2:
        raise UsageError("--hidden: a VAE's networks have two hidden layers, such as 256,256")
    if choices.decoder == "bernoulli" and data.kind == "vector":
        low, high = float(data.values.min()), float(data.values.max())
        if not 0 <= low <= high <= 1:
            raise UsageError(
                f"--decoder bernoulli takes values in [0, 1], {label(data.name)} holds {low:g} to "
                f"{high:g}"
            )
