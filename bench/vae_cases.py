"""A training step of each VAE method: ours, and the same written plainly in PyTorch.

The plain step is the two-step recipe to the letter: draw codes, detach them, one step of the score
estimator; draw codes again, one step of encoder and decoder. Losses and derivatives come from
PyTorch's own functions, with a second differentiation where a derivative is wanted, dense products
with masked weights, and `torch.optim.RMSprop`.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import torch
from cases import median_seconds
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.masked import MaskedLinear
from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_config import VAEConfig
from arcsm_cli.models.vae_networks import GaussianEncoder, ImplicitEncoder
from arcsm_cli.models.vae_scores import ConditionalScores, JointScores
from arcsm_cli.models.vae_triangular import TriangularEncoder
from arcsm_cli.randomness import rademacher
from arcsm_cli.registry import METHODS
from arcsm_cli.runtime import reuse_memory
from arcsm_cli.training.loop import train
from arcsm_cli.training.settings import VAESettings
from arcsm_cli.training.silent import Follower
from arcsm_cli.training.state import TrainState

BATCH, LATENT = 128, 8


def model(method: str) -> VAE:
    """MNIST's sizes: two hidden layers of 256, eight codes."""
    torch.manual_seed(0)
    return VAE(VAEConfig(shape=(1, 28, 28), latent_dim=LATENT, method=method))


def ours(method: str) -> float:
    """Seconds of a step of the training loop itself, drawing of the data included."""
    reuse_memory()
    slow = method in ("stein", "spectral")
    steps = 12 if slow else 120
    settings = VAESettings(steps=steps, validate_every=10**9, checkpoint_every=10**9)
    state = TrainState(model(method), settings)
    data = Dataset("noise", (torch.rand(2048, 1, 28, 28) * 256).to(torch.uint8))
    timer = _Timer()
    train(state, data, data.limit(256), timer)
    return timer.median()


class _Timer(Follower):
    """Observes a run and keeps when each step ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def stepped(self, state: TrainState, loss: float) -> None:
        self.ends.append(time.perf_counter())

    def median(self) -> float:
        late = self.ends[len(self.ends) // 4 :]
        return statistics.median(b - a for a, b in itertools.pairwise(late))


def plain(method: str) -> float:
    """Seconds of the two-step recipe."""
    vae = model(method)
    own = [p for n, p in vae.named_parameters() if not n.startswith("scores.")]
    optimizer = torch.optim.RMSprop(own, lr=1e-4)
    estimator = vae.scores
    other = None if estimator is None else torch.optim.RMSprop(estimator.parameters(), lr=1e-4)
    data = torch.rand(2048, 784)

    def step() -> None:
        x = torch.bernoulli(data[torch.randint(len(data), (BATCH,))])
        if estimator is not None and other is not None:
            with torch.no_grad():
                z = vae.encode(x, torch.randn(BATCH, LATENT))
            other.zero_grad()
            _score_loss(vae, x, z.detach()).backward()
            other.step()
        optimizer.zero_grad()
        eps = torch.randn(BATCH, LATENT)
        features = vae.features(x)
        z = vae.encoder(features, eps)
        logits = vae.decoder(z)
        energy = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        if isinstance(vae.encoder, GaussianEncoder):
            mean, log_sd = vae.encoder.moments(features)
            prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
            loss = energy + kl_divergence(Normal(mean, log_sd.exp()), prior).sum(1)
        else:
            loss = energy - log_prior(z) + (_scores(vae, x, z).detach() * z).sum(1)
        loss.mean().backward()
        optimizer.step()

    slow = method in ("stein", "spectral")
    return median_seconds(step, warm=2, runs=6 if slow else 40)


def _score_loss(vae: VAE, x: Tensor, z: Tensor) -> Tensor:
    """Return the estimator's objective, derivatives by autograd."""
    features = vae.features(x).detach()
    z = z.requires_grad_()
    if isinstance(vae.scores, ConditionalScores):
        assert isinstance(vae.encoder, TriangularEncoder)
        if vae.config.method == "csm":
            # ds_d/dz_d alone: contexts and frame are of other codes.
            c = _contexts(vae.scores, z.detach(), features)
            frame = vae.encoder.frame(features, z.detach())
            u = (z - frame.location) / frame.scale
            f, _ = vae.scores.score.at(u, vae.scores.score.project(c, None))
            s = (f - u) / frame.scale
            (ds,) = torch.autograd.grad(s.sum(), z, create_graph=True)
            return (frame.scale.square() * (0.5 * s.square() + ds)).sum(1).mean()
        frame = vae.encoder.frame(features, z)
        s, t = vae.scores(z, features, frame), frame.scale.detach()
        v = t * rademacher(z)
        (product,) = torch.autograd.grad((s * v).sum(), z, create_graph=True)
        return ((product * v).sum(1) + 0.5 * (s * v).sum(1).square()).mean()
    assert isinstance(vae.scores, JointScores)
    s, t = vae.scores.with_scale(z, features)
    v = t.detach() * rademacher(z)
    (product,) = torch.autograd.grad((s * v).sum(), z, create_graph=True)
    return ((product * v).sum(1) + 0.5 * (t.detach() * s).square().sum(1)).mean()


def _contexts(scores: ConditionalScores, z: Tensor, features: Tensor) -> Tensor:
    """Return contexts by dense products with masked weights."""

    def dense(layer: MaskedLinear, h: Tensor) -> Tensor:
        return functional.linear(h, layer.weight * layer.mask(), layer.bias)

    h = (dense(scores.first, z) + scores.given(features.tanh())).tanh()
    return dense(scores.out, dense(scores.second, h).tanh()).view(*z.shape, scores.width)


def _scores(vae: VAE, x: Tensor, z: Tensor) -> Tensor:
    """Return the scores at codes, by whatever estimates them."""
    features = vae.features(x).detach()
    if isinstance(vae.scores, ConditionalScores):
        assert isinstance(vae.encoder, TriangularEncoder)
        return vae.scores(z, features, vae.encoder.frame(features, z))
    if isinstance(vae.scores, JointScores):
        return vae.scores(z, features)
    assert isinstance(vae.encoder, ImplicitEncoder)
    more = [vae.encoder(features, torch.randn_like(z)) for _ in range(vae.config.particles - 1)]
    particles = torch.stack([z, *more], 1)
    return _kernel_scores(particles, vae.config.method)[:, 0]


def _kernel_scores(z: Tensor, method: str) -> Tensor:
    """Return kernel estimates with all differences of particles written out."""
    difference = z[:, :, None] - z[:, None]
    distance = difference.norm(dim=-1)
    n = z.shape[1]
    i, j = torch.triu_indices(n, n, 1)
    width = distance[:, i, j].median(1).values[:, None, None]
    k = torch.exp(-0.5 * (distance / width) ** 2)
    gradients = (k[..., None] * difference / width[..., None] ** 2).sum(2)
    if method == "stein":
        return -torch.linalg.solve(k + 1e-3 * torch.eye(n), gradients)
    values, vectors = torch.linalg.eigh(k)
    values, vectors = values.flip(-1).clamp(min=0), vectors.flip(-1)
    kept = (values.cumsum(-1) - values) < 0.99 * values.sum(-1, keepdim=True)
    inverse = torch.where(kept, 1 / values, 0.0)
    return -(vectors * inverse[:, None]) @ (vectors.mT @ gradients)


def _case(step: Callable[[str], float], method: str) -> Callable[[], float]:
    return lambda: step(method)


VAE_CASES = {
    f"vae_step_{which}_{method}".replace("-", "_"): _case(step, method)
    for which, step in (("ours", ours), ("plain", plain))
    for method in METHODS
}

VAE_RATIOS = [
    (f"vae-step-{method}", f"vae_step_plain_{name}", f"vae_step_ours_{name}")
    for method in METHODS
    for name in (method.replace("-", "_"),)
] + [
    # How many times an elbo step's time: more than 1 is more.
    (f"vae-step-{method}-over-elbo", f"vae_step_ours_{name}", "vae_step_ours_elbo")
    for method in [*METHODS][1:]
    for name in (method.replace("-", "_"),)
]
