"""Samples of a VAE: codes from the prior, examples from the decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arcsm_cli.models.vae import VAE
from arcsm_cli.randomness import SampleNoise


@torch.no_grad()
def sample_vae(
    vae: VAE,
    noise: SampleNoise,
    *,
    denoise: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw one example for each noise stream.

    Arguments:
        noise: the B samples' random numbers.
        denoise: return E[x|z] instead of x drawn from p(x|z).
        tick: called with the number of dimensions once they are drawn.

    Returns:
        (B, *shape), in file units.
    """
    z = noise.normal(vae.config.latent_dim)
    dimensions = vae.config.dimensions
    x = vae.mean(z) if denoise else vae.observe(z, noise.normal(dimensions))
    if tick is not None:
        tick(dimensions)
    return vae.unflatten(x)
