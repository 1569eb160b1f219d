"""From a checkpoint file to the model in it."""

from __future__ import annotations

import os

from arcsm_cli.errors import DamagedInputError, UnavailableError
from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint
from arcsm_cli.io.streams import label
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.restore import restore, restore_vae
from arcsm_cli.models.vae import VAE


def load_model(source: str | os.PathLike[str]) -> tuple[Checkpoint, AutoregressiveModel]:
    """Read the checkpoint at ``source``, a path or ``-``, and build its model, on the CPU.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is not a sound checkpoint of an autoregressive model; the file is
            named.
    """
    checkpoint, model = load_any(source)
    if isinstance(model, VAE):
        raise DamagedInputError(
            f"{label(source)}: holds a VAE; an AR-CSM or a likelihood-trained model is wanted here"
        )
    return checkpoint, model


def load_any(
    source: str | os.PathLike[str],
) -> tuple[Checkpoint, AutoregressiveModel | VAE]:
    """Read the checkpoint at ``source`` and build its model, of whatever kind, on the CPU.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is not a sound checkpoint of a model known here; the file is named.
        UnavailableError: its context network is of a plugin that has not been given.
    """
    checkpoint = load_checkpoint(source)
    try:
        if checkpoint.kind == VAE.kind:
            return checkpoint, restore_vae(checkpoint)
        return checkpoint, restore(checkpoint)
    except (DamagedInputError, UnavailableError) as error:
        raise type(error)(f"{label(source)}: {error}") from error
