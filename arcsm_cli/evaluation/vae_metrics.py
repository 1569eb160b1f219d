"""Figures of a VAE on data: bounds on its likelihood, and the likelihood by annealing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.stream import Examples
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.ais import AnnealedSampling
from arcsm_cli.evaluation.figures import Found, check_shape, found_in
from arcsm_cli.evaluation.image_features import Extract, feature_distances
from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_networks import GaussianEncoder
from arcsm_cli.randomness import Purpose, SampleNoise
from arcsm_cli.sampling.latent import sample_vae

METRICS = ("elbo", "iwae", "ais")
_ROWS = 4096  # codes decoded at a time
_FITTED_TO = 256  # draws, or 8 a code, of an implicit encoder that its proposal is fitted to
_WIDENED = 1.2  # variance of that proposal, in units of theirs: its tails must not be lighter


class Proposal(NamedTuple):
    """Normal distributions of codes: mean (B, L) and lower factor of the covariance (B, L, L)."""

    mean: Tensor
    factor: Tensor

    def draw(self, eps: Tensor) -> Tensor:
        """Return codes (B, K, L) from standard normals (B, K, L)."""
        return self.mean[:, None] + eps @ self.factor.mT

    def log_density(self, eps: Tensor) -> Tensor:
        """Return the log-density (B, K) of the codes drawn from eps."""
        log_scale = self.factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        constant = eps.shape[-1] * math.log(2 * math.pi)
        return -0.5 * (eps.square().sum(-1) + constant) - log_scale


@dataclass(frozen=True)
class DecoderLikelihood:
    """p(x|z) of examples repeated for their codes; see `arcsm_cli.evaluation.ais.Likelihood`.

    Attributes:
        x: (N, D), a row's example.
        low_precision: compute gradients in bfloat16. Trajectories stay reversible and keep volume,
            and are accepted by exact energies: only how often changes.
    """

    vae: VAE
    x: Tensor
    low_precision: bool = False

    @torch.no_grad()
    def value(self, z: Tensor) -> Tensor:
        """Return log p(x|z), (N,)."""
        return self.vae.log_likelihood(self.x, z)

    def gradient(self, z: Tensor) -> Tensor:
        """Return its gradient in z, (N, L)."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            with torch.autocast(z.device.type, torch.bfloat16, enabled=self.low_precision):
                out = self.vae.decoder(leaf)
        residual = self.vae.residual(self.x, out.detach()).to(out.dtype)
        slope: Tensor = torch.autograd.grad(out, leaf, residual)[0]
        return slope


@dataclass(frozen=True)
class Likelihoods:
    """How the figures are computed.

    Attributes:
        metrics: of `METRICS`.
        annealing: of ais.
        importance_samples: K of iwae; elbo is the mean over as many.
        low_precision: of the trajectories' gradients in ais.
        seed: of everything random; example i's numbers depend on the seed and i alone.
    """

    metrics: list[str]
    annealing: AnnealedSampling = field(default_factory=AnnealedSampling)
    importance_samples: int = 500
    low_precision: bool = False
    seed: int = 0


def evaluate_vae(
    vae: VAE,
    data: Examples,
    how: Likelihoods,
    *,
    batch_size: int = 20,
    tick: Callable[[int], None] = lambda steps: None,
    ranks: Ranks = SOLO,
) -> Iterator[Found]:
    """Evaluate examples batch by batch: negative log-likelihoods and bounds, nats an example.

    Arguments:
        data: examples of the model's shape; for a Bernoulli decoder their values are the
            probabilities with which they are binarised, once an example.
        tick: called with the number of examples, or while annealing with 1 a temperature.
        ranks: share the batches, all of which the first one gets; see `Ranks.in_order`.

    Raises:
        DamagedInputError: if the examples are of another shape, or the figures are not numbers.
    """
    check_shape(vae, data)
    vae.requires_grad_(False)
    offset = 0.0 if vae.config.is_image else vae.units.log_scale

    def read(batch: Batch, indices: range) -> Found:
        x = _observed(vae, vae.flatten(batch.x), how.seed, indices)
        figures: dict[str, Tensor] = {}
        if {"elbo", "iwae"} & set(how.metrics):
            figures |= _bounds(vae, x, how, indices)
        if "ais" in how.metrics:
            noise = SampleNoise(how.seed, indices, vae.device, Purpose.CHAINS)
            rows = x.repeat_interleave(how.annealing.chains, 0)
            likelihood = DecoderLikelihood(vae, rows, how.low_precision)
            figures["ais"] = -how.annealing(likelihood, vae.config.latent_dim, noise, tick)
        else:
            tick(batch.size)
        figures = {name: figures[name].cpu() + offset for name in how.metrics}
        return Found(vae.unflatten(x).cpu(), figures, {})

    return found_in(data, read, batch_size=batch_size, ranks=ranks)


def _observed(vae: VAE, x: Tensor, seed: int, indices: range) -> Tensor:
    """Return examples (B, D) as the model sees them: binarised for a Bernoulli decoder."""
    if not vae.is_binary:
        return x
    noise = SampleNoise(seed, indices, x.device, Purpose.MEASURED)
    uniform: Tensor = torch.special.ndtr(noise.normal(x.shape[1]))
    return (uniform < x).to(x.dtype)


@torch.no_grad()
def _bounds(vae: VAE, x: Tensor, how: Likelihoods, indices: range) -> dict[str, Tensor]:
    """Return the negative evidence lower bound and its importance-weighted tightening, (B,).

    Both hold for any proposal. That of a Gaussian encoder is the encoder; that of an implicit one
    a normal distribution fitted to its draws.
    """
    noise = SampleNoise(how.seed, indices, x.device, Purpose.CODES)
    proposal = propose(vae, x, noise)
    chunks = []
    count = how.importance_samples
    for start in range(0, count, max(1, _ROWS // len(x))):
        k = min(max(1, _ROWS // len(x)), count - start)
        eps = noise.normal(k, vae.config.latent_dim)
        z = proposal.draw(eps)
        rows = x.repeat_interleave(k, 0)
        log_p = vae.log_likelihood(rows, z.flatten(0, 1)).view(len(x), k) + log_prior(z)
        chunks.append((log_p - proposal.log_density(eps)).double())
    log_w = torch.cat(chunks, 1)
    return {"elbo": -log_w.mean(1), "iwae": math.log(count) - log_w.logsumexp(1)}


def propose(vae: VAE, x: Tensor, noise: SampleNoise) -> Proposal:
    """Return the distribution from which codes are proposed for examples x (B, D)."""
    features = vae.features(x)
    if isinstance(vae.encoder, GaussianEncoder):
        mean, log_sd = vae.encoder.moments(features)
        return Proposal(mean, log_sd.exp().diag_embed())
    draws = max(_FITTED_TO, 8 * vae.config.latent_dim)
    eps = noise.normal(draws, vae.config.latent_dim)
    rows = features.repeat_interleave(draws, 0)
    z = vae.encoder(rows, eps.flatten(0, 1)).view(eps.shape)
    mean = z.mean(1)
    centred = z - mean[:, None]
    covariance = _WIDENED * centred.mT @ centred / draws
    least = 1e-6 * torch.eye(z.shape[2], device=z.device, dtype=z.dtype)
    # Without an error where codes overflow: the bounds are then not numbers, which is told.
    return Proposal(mean, torch.linalg.cholesky_ex(covariance + least).L)


def check_metrics(vae: VAE, data: Examples, features: list[str]) -> None:
    """Refuse data of another shape, or metrics of images for what is none.

    Raises:
        DamagedInputError, UsageError: as said.
    """
    check_shape(vae, data)
    if features and not (vae.config.is_image and vae.config.shape[0] in (1, 3)):
        raise UsageError(f"--metric {features[0]} compares images of 1 or 3 channels")
    if features and len(data) < 2:
        raise DamagedInputError(f"{data.name}: has one example, distances take two or more")


def ticks(data: Examples, how: Likelihoods, batch_size: int, ranks: Ranks = SOLO) -> int:
    """Return the sum of what `evaluate_vae` calls ``tick`` with on this rank."""
    if "ais" not in how.metrics:
        return ranks.own_count(len(data), batch_size)
    return len(ranks.starts(len(data), batch_size)) * (how.annealing.temperatures - 1)


def vae_summary(figures: dict[str, np.ndarray[Any, Any]]) -> dict[str, float]:
    """Return the mean of each figure, and the standard error of the mean under ``NAME_se``."""
    result: dict[str, float] = {}
    for name, values in figures.items():
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        result |= {name: float(values.mean()), f"{name}_se": float(error)}
    return result


def vae_density(vae: VAE) -> str:
    """Return which likelihood the figures are of, for the output."""
    if vae.is_binary:
        return "probabilities of binarised examples"
    return "images in [-1, 1]" if vae.config.is_image else "data in file units"


def vae_features(
    vae: VAE,
    data: Examples,
    extract: Extract,
    metrics: list[str],
    *,
    batch_size: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, float]:
    """Return fid and kid of as many samples, means given their codes, as there are examples."""
    count = len(data)

    def samples() -> Iterator[Tensor]:
        for start in range(0, count, batch_size):
            part = range(start, min(start + batch_size, count))
            noise = SampleNoise(seed, part, vae.device)
            yield sample_vae(vae, noise, denoise=True).cpu()

    return feature_distances(
        extract,
        samples(),
        (batch.x for batch in data.batches(batch_size)),
        counts=(count, count),
        metrics=metrics,
        seed=seed,
        advance=advance,
    )
