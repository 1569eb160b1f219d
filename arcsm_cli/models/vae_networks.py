"""The networks of a VAE: what reads an example, what draws z from it, what reads z."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from arcsm_cli.models.vae_config import VAEConfig

NARROWEST = -7.0  # log of the smallest deviation that a code may have


class Features(nn.Module):
    """Everything that an encoder knows of an example, (B, H): its first layer before the tanh.

    q(z|x) depends on x through these alone, so they are what a score estimator is conditioned on.

    Arguments:
        config: the settings; a dense layer, after strided 5 x 5 convolutions for ``conv``.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        sizes = (config.shape[0], *config.channels)
        self.shape = config.shape
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in itertools.pairwise(sizes)
        )
        inputs = sizes[-1] * math.prod(config.coarse) if config.channels else config.dimensions
        self.dense = nn.Linear(inputs, config.hidden[0])

    def forward(self, x: Tensor) -> Tensor:
        """Map flat examples (B, D) to features (B, H)."""
        if self.convolutions:
            x = x.view(-1, *self.shape)
            for convolution in self.convolutions:
                x = torch.relu(convolution(x))
            x = x.flatten(1)
        features: Tensor = self.dense(x)
        return features


class GaussianEncoder(nn.Module):
    """z = mean(x) + sd(x) eps: the encoder whose entropy is known."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.hidden[0], config.hidden[1])
        self.out = nn.Linear(config.hidden[1], 2 * config.latent_dim)

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-deviation of z, (B, L) each."""
        mean, log_sd = self.out(self.hidden(features.tanh()).tanh()).chunk(2, 1)
        return mean, log_sd.clamp(min=NARROWEST)

    def forward(self, features: Tensor, eps: Tensor) -> Tensor:
        """Map features (B, H) and standard normals (B, L) to z (B, L)."""
        mean, log_sd = self.moments(features)
        return mean + log_sd.exp() * eps


class ImplicitEncoder(nn.Module):
    """z as any function of x and noise: a perceptron that reads both."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.noise = nn.Linear(config.latent_dim, config.hidden[0], bias=False)
        self.hidden = nn.Linear(config.hidden[0], config.hidden[1])
        self.out = nn.Linear(config.hidden[1], config.latent_dim)

    def forward(self, features: Tensor, eps: Tensor) -> Tensor:
        """Map features (..., H) and standard normals (..., L) to z (..., L)."""
        h = (features + self.noise(eps)).tanh()
        z: Tensor = self.out(self.hidden(h).tanh())
        return z


class Decoder(nn.Module):
    """The mean of an example given z, as it is (Gaussian) or as logits (Bernoulli).

    Arguments:
        config: the settings; dense layers, before transposed 5 x 5 convolutions for ``conv``.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.first = nn.Linear(config.latent_dim, config.hidden[1])
        self.second = nn.Linear(config.hidden[1], config.hidden[0])
        sizes = (*reversed(config.channels), config.shape[0])
        self.coarse = (sizes[0], *config.coarse) if config.channels else ()
        self.third = nn.Linear(config.hidden[0], math.prod(self.coarse or config.shape))
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1)
            for a, b in itertools.pairwise(sizes)
            if config.channels
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (B, L) to (B, D)."""
        x: Tensor = self.third(self.second(self.first(z).tanh()).tanh())
        if self.convolutions:
            x = x.view(-1, *self.coarse)
            for convolution in self.convolutions:
                x = convolution(torch.relu(x))
            x = x.flatten(1)
        return x
