"""From data and a few choices to a VAE's configuration."""

from __future__ import annotations

from arcsm_cli.data.dataset import Rows
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.models.vae_config import VAEConfig, VAEOptions
from arcsm_cli.options import Chosen, check_needs
from arcsm_cli.registry import METHODS
from arcsm_cli.training.scaling import scaling_of


class VAEChoices(Chosen):
    """What the command line may say of a VAE; the rest follows from the data's kind and size."""

    groups = (VAEOptions,)


def vae_config(data: Rows, choices: VAEChoices) -> VAEConfig:
    """Return the configuration of a VAE for ``data``.

    Grey images are binarised for a Bernoulli decoder; colour images go to [-1, 1] and vectors to
    mean 0 and variance 1 for a Gaussian one.

    Raises:
        UsageError: if the choices do not fit the data or one another.
    """
    _check(data, choices)
    image = data.kind == "image"
    known = choices.about(image=image, grey=image and data.shape[0] == 1)
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    if known.decoder == "gaussian":
        shift, scale, *_ = scaling_of(data, standardize=True)
    config = VAEConfig(
        **vars(known.settled(VAEOptions)),
        shape=data.shape,
        data_shift=shift,
        data_scale=scale,
        columns=data.columns or (),
    )
    problem = config.problem()
    if problem:
        raise UsageError(problem)
    return config


def _check(data: Rows, choices: VAEChoices) -> None:
    """Refuse choices that the method, the network or the data have no use for."""
    given = choices.given
    check_needs(given, VAEOptions, METHODS, choices.method)
    if "channels" in given and given.get("network") == "mlp":
        raise UsageError("--channels is for --network conv")
    if len(given.get("hidden", (1, 1))) != 2:
        raise UsageError("--hidden: a VAE's networks have two hidden layers, such as 256,256")
    if given.get("decoder") == "bernoulli" and data.kind == "vector":
        found = data.moments()
        low, high = float(found.low.min()), float(found.high.max())
        if not 0 <= low <= high <= 1:
            raise UsageError(
                f"--decoder bernoulli takes values in [0, 1], {label(data.name)} holds {low:g} to "
                f"{high:g}"
            )
