"""Losses of a VAE: the evidence lower bound, whose entropy may be known by its gradient alone.

With z = g(eps, x) the gradient of the entropy of q(z|x) is -E[s grad z], with s the score of
q(z|x) (Li & Turner 2018, equation 5; Song et al. 2019). Where g is triangular in the noise the
conditional scores s_d = d/dz_d log q(z_d | z_<d, x) can take its place: the other terms of the
joint score have mean zero given the noise that z_<=d depends on (Meng et al. 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.once import differentiable_twice
from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_networks import GaussianEncoder, ImplicitEncoder
from arcsm_cli.models.vae_scores import ConditionalScores, JointScores
from arcsm_cli.models.vae_triangular import Frame, TriangularEncoder
from arcsm_cli.objectives.csm import summand
from arcsm_cli.objectives.kernel_scores import spectral_scores, stein_scores
from arcsm_cli.objectives.sliced import ssm, ssm_vr
from arcsm_cli.randomness import Draws


class VAELosses(NamedTuple):
    """What a step minimises and what it reports; scalars, means over the batch.

    Attributes:
        total: its gradient is the step's, for the model and the estimator at once: they share no
            weights.
        loss: -E log p(x, z), for ``elbo`` with the entropy -ELBO; nats an example.
        score_loss: the estimator's objective per code; None where there is no estimator.
    """

    total: Tensor
    loss: Tensor
    score_loss: Tensor | None


def vae_losses(vae: VAE, batch: Batch | Tensor, random: Draws) -> VAELosses:
    """Return the losses of a batch.

    The estimator is fitted to the very codes that the model's step uses, detached. What the model
    sees of it is what it said before this step: it has never seen these codes.

    Arguments:
        batch: (B, D), binary where the decoder is Bernoulli.
        random: all randomness comes from it.
    """
    x = Batch.of(batch).x
    features = vae.features(x)
    eps = random.normal(x, vae.config.latent_dim)
    encoder = vae.encoder
    if isinstance(encoder, TriangularEncoder):
        z, frame = encoder.draw(features, eps)
    else:
        z, frame = encoder(features, eps), None
    energy = -vae.log_likelihood(x, z)
    if isinstance(encoder, GaussianEncoder):
        loss = (energy + _divergence(*encoder.moments(features))).mean()
        return VAELosses(loss, loss.detach(), None)
    energy = (energy - log_prior(z)).mean()
    known, codes = features.detach(), z.detach()
    score_loss = None
    if isinstance(vae.scores, ConditionalScores) and isinstance(encoder, TriangularEncoder):
        if vae.config.method == "csm":
            assert frame is not None
            s, score_loss = _composite(vae.scores, codes, known, frame)
        else:
            s, score_loss = _sliced(vae.scores, encoder, codes, known, random)
    elif isinstance(vae.scores, JointScores):
        s, score_loss = _sliced_joint(vae.scores, codes, known, random)
    else:
        assert isinstance(encoder, ImplicitEncoder)
        z, s = particles(vae, encoder, features, z, random)
    surrogate = energy + (s.detach() * z).sum(-1).mean()
    if score_loss is None:
        return VAELosses(surrogate, energy.detach(), None)
    reported = score_loss.detach() / vae.config.latent_dim
    return VAELosses(surrogate + score_loss, energy.detach(), reported)


def _divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """Return KL(N(mean, sd^2) || N(0, I)), (B,)."""
    return 0.5 * (mean.square() + (2 * log_sd).exp() - 1 - 2 * log_sd).sum(1)


def _composite(
    scores: ConditionalScores, codes: Tensor, features: Tensor, frame: Frame
) -> tuple[Tensor, Tensor]:
    """Return the scores and the composite score matching objective that trains them.

    Each conditional is a problem of its own, so each may have its own weight: the scale's square
    makes narrow and wide posteriors count alike.
    """
    s, ds = scores.with_derivative(codes, features, frame)
    return s, (frame.scale.square() * summand(s, ds)).sum(1).mean()


@torch.enable_grad()
def _sliced(
    scores: ConditionalScores,
    encoder: TriangularEncoder,
    codes: Tensor,
    features: Tensor,
    random: Draws,
) -> tuple[Tensor, Tensor]:
    """Return the scores and the sliced objective, with the weights of `_composite`.

    Projections of deviation t_d in direction d weigh component d by t_d^2. The location and the
    scale depend on earlier codes, which a projection moves along.
    """
    codes = codes.requires_grad_()
    frame = encoder.frame(features, codes)
    with differentiable_twice():
        s = scores(codes, features, frame)
    v = frame.scale.detach() * random.signs(codes)
    return s, ssm(s, codes, v).mean()


@torch.enable_grad()
def _sliced_joint(
    scores: JointScores, codes: Tensor, features: Tensor, random: Draws
) -> tuple[Tensor, Tensor]:
    """Return joint scores and the sliced objective of reduced variance, weighted likewise."""
    codes = codes.requires_grad_()
    s, t = scores.with_scale(codes, features)
    t = t.detach()
    return s, ssm_vr(s, codes, t * random.signs(codes), t.square()).mean()


def particles(
    vae: VAE, encoder: ImplicitEncoder, features: Tensor, codes: Tensor, random: Draws
) -> tuple[Tensor, Tensor]:
    """Return n codes (B, n, L) of each example, the first of them given, and their scores.

    All of them carry the entropy's gradient: their mean has far less variance than one alone.
    """
    eps = random.normal(codes, vae.config.particles - 1, codes.shape[1])
    z = torch.cat([codes[:, None], encoder(features[:, None], eps)], 1)
    estimate = stein_scores if vae.config.method == "stein" else spectral_scores
    return z, estimate(z.detach())
