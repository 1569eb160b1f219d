"""The variational autoencoder (Kingma & Welling 2014) with an explicit or an implicit encoder."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arcsm_cli.models.once import differentiable_once
from arcsm_cli.models.units import FileUnits
from arcsm_cli.models.vae_config import TRIANGULAR, VAEConfig
from arcsm_cli.models.vae_networks import (
    Decoder,
    Features,
    GaussianEncoder,
    ImplicitEncoder,
)
from arcsm_cli.models.vae_scores import ConditionalScores, JointScores
from arcsm_cli.models.vae_triangular import TriangularEncoder
from arcsm_cli.registry import METHODS

_NARROWEST = -5.0  # log of the smallest deviation of a Gaussian decoder


class VAE(nn.Module):
    """p(z) = N(0, I), p(x|z) by a decoder, q(z|x) by an encoder, and what estimates its scores.

    All methods work on flat examples (B, D) in the model's scale; `flatten` and `unflatten`
    convert. Binary data are 0 and 1 there.

    Arguments:
        config: the settings; see `VAEConfig`.

    Raises:
        ValueError: the configuration cannot be used.

    Example:
        >>> vae = VAE(VAEConfig(shape=(6,), latent_dim=2, hidden=(8, 8)))
        >>> x, eps = torch.zeros(3, 6), torch.zeros(3, 2)
        >>> z = vae.encode(x, eps)
        >>> z.shape, vae.log_likelihood(x, z).shape
        (torch.Size([3, 2]), torch.Size([3]))
    """

    kind: ClassVar[str] = "vae"

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        problem = config.problem()
        if problem:
            raise ValueError(problem)
        self.config = config
        self.features = Features(config)
        self.encoder = encoder(config)
        self.decoder = Decoder(config)
        if config.decoder == "gaussian":
            self.log_sd = nn.Parameter(torch.zeros(()))
        self.scores = score_estimator(config)
        self.units = FileUnits(config.data_shift, config.data_scale, config.dimensions)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def is_binary(self) -> bool:
        """Whether examples are 0 and 1."""
        return self.config.decoder == "bernoulli"

    def flatten(self, x: Tensor) -> Tensor:
        """Map examples in file units (B, *shape), float32 or float64, to the model's scale, (B, D).

        They may lie elsewhere; the result is on the model's device.
        """
        dtype = next(self.parameters()).dtype
        return self.units.to_model(x.flatten(1), dtype).to(self.device)

    def unflatten(self, x: Tensor) -> Tensor:
        """Map examples (B, D) back to file units, (B, *shape); see `FileUnits.to_file`."""
        return self.units.to_file(x).view(-1, *self.config.shape)

    def encode(self, x: Tensor, eps: Tensor) -> Tensor:
        """Return the codes (B, L) of examples (B, D) with standard normals eps (B, L)."""
        z: Tensor = self.encoder(self.features(x), eps)
        return z

    def mean(self, z: Tensor) -> Tensor:
        """Return E[x|z], (B, D)."""
        out: Tensor = self.decoder(z)
        return out.sigmoid() if self.is_binary else out

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z), (B,), in nats; of the model's scale where that is continuous."""
        return self.log_likelihood_of(x, self.decoder(z))

    def log_likelihood_of(self, x: Tensor, out: Tensor) -> Tensor:
        """Return log p(x|z), (B,), given what the decoder says (B, D)."""
        if self.is_binary:
            likelihood: Tensor = _BernoulliLogLikelihood.apply(out, x)
            return likelihood
        log_sd = self.log_sd.clamp(min=_NARROWEST)
        square = ((x - out) * (-log_sd).exp()).square().sum(1)
        log_p: Tensor = -0.5 * square - x.shape[1] * (log_sd + 0.5 * math.log(2 * math.pi))
        return log_p

    def residual(self, x: Tensor, out: Tensor) -> Tensor:
        """Return the gradient of log p(x|z) in what the decoder says, (B, D)."""
        if self.is_binary:
            return x - out.float().sigmoid()
        slope: Tensor = (x - out) * (-2 * self.log_sd.clamp(min=_NARROWEST)).exp()
        return slope

    def observe(self, z: Tensor, noise: Tensor) -> Tensor:
        """Draw x (B, D) from p(x|z) with standard normals (B, D)."""
        out: Tensor = self.decoder(z)
        if self.is_binary:
            uniform: Tensor = torch.special.ndtr(noise)
            return (uniform < out.sigmoid()).to(z.dtype)
        drawn: Tensor = out + self.log_sd.clamp(min=_NARROWEST).exp() * noise
        return drawn


class _BernoulliLogLikelihood(torch.autograd.Function):
    """sum_d log p(x_d) of binary x (B, D) with logits (B, D).

    log(1 + e^-|o|) by `log`, which is ten times faster here than `log1p`; where they differ, by
    6e-8, the sum has no such digits.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        tail = logits.abs().neg_().exp_().add_(1).log_()
        linear: Tensor = torch.linalg.vecdot(x, logits)
        return linear - (tail + logits.relu()).sum(1)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return (x - logits.sigmoid()).mul_(grad[:, None]), None


def log_prior(z: Tensor) -> Tensor:
    """Return log p(z), (B,), of codes (B, L)."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


def encoder(config: VAEConfig) -> GaussianEncoder | ImplicitEncoder | TriangularEncoder:
    """Return the encoder that a method needs, with fresh weights."""
    found: GaussianEncoder | ImplicitEncoder | TriangularEncoder = METHODS[config.method](config)
    return found


def score_estimator(config: VAEConfig) -> ConditionalScores | JointScores | None:
    """Return the network that estimates the scores of q(z|x); None where none is trained."""
    if config.method in TRIANGULAR:
        return ConditionalScores(config)
    return JointScores(config) if METHODS.has(config.method, "estimator") else None
