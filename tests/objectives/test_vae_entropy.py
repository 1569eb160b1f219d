"""The gradient of an encoder's entropy by scores of its codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_networks import ImplicitEncoder
from arcsm_cli.models.vae_scores import ConditionalScores, JointScores
from arcsm_cli.models.vae_triangular import Frame, TriangularEncoder
from arcsm_cli.objectives.vae import vae_losses
from tests.objectives.noises import SIZE, Make, drawn, noise

TRIANGLE = torch.tensor([[1.5, 0.0, 0.0], [-0.8, 0.6, 0.0], [0.5, 1.2, 0.9]], dtype=torch.float64)
FULL = torch.tensor([[1.5, 0.7, -0.4], [-0.8, 0.6, 0.5], [0.5, 1.2, 0.9]], dtype=torch.float64)
DRAWS, BATCHES = 25_000, 40  # a million in all


# The entropy's gradient, through the shipped losses, of linear encoders with exact scores


class Linear(TriangularEncoder):
    """z = M eps, in the place of the triangular encoder whether M is triangular or not."""

    mixing: nn.Parameter

    def draw(self, features: Tensor, eps: Tensor) -> tuple[Tensor, Frame]:
        return eps @ self.mixing.T, self.frame(features, eps)

    def frame(self, features: Tensor, z: Tensor) -> Frame:
        return Frame(torch.zeros_like(z), torch.ones_like(z))


class LinearImplicit(ImplicitEncoder):
    """z = M eps."""

    mixing: nn.Parameter

    def forward(self, features: Tensor, eps: Tensor) -> Tensor:
        return eps @ self.mixing.T


class ExactConditionals(ConditionalScores):
    """The conditional scores of z = M eps: those of the triangle L with L L' = M M'."""

    mixing: nn.Parameter

    def forward(self, z: Tensor, features: Tensor, frame: Frame) -> Tensor:
        triangle = torch.linalg.cholesky(self.mixing @ self.mixing.T)
        innovations = torch.linalg.solve_triangular(triangle, z.T, upper=False).T
        s: Tensor = -innovations / triangle.diagonal()
        return s

    def with_derivative(self, z: Tensor, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        return self(z, features, frame), torch.zeros_like(z)


class ExactJoint(JointScores):
    """The score of z = M eps."""

    mixing: nn.Parameter

    def with_scale(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        s = -z @ torch.linalg.inv(self.mixing @ self.mixing.T)
        return s, torch.ones_like(s)


PARTS: dict[str, tuple[Any, Any]] = {
    "csm": (Linear, ExactConditionals),
    "ssm-ar": (Linear, ExactConditionals),
    "ssm": (LinearImplicit, ExactJoint),
}


def linear_vae(random_vae: Make, method: str, mixing: Tensor) -> VAE:
    """A VAE with a linear encoder, whatever x, and exact scores."""
    vae: VAE = random_vae(shape=(1,), latent_dim=SIZE, method=method, hidden=(1, 1))
    encoder, scores = PARTS[method]
    vae.encoder, vae.scores = encoder(vae.config).double(), scores(vae.config).double()
    for part in (vae.encoder, vae.scores):  # two parameters: no gradient passes from one part
        part.mixing = nn.Parameter(mixing.clone())
    return vae


def entropy_gradients(vae: VAE, seed: int = 0) -> Tensor:
    """What the losses take for the gradient of the entropy in M, a batch each, (BATCHES, L, L)."""
    x = torch.ones(DRAWS, 1, dtype=torch.float64)
    mixing: Any = vae.encoder.mixing
    found = []
    for batch in range(seed, seed + BATCHES):
        total = vae_losses(vae, x, drawn(batch)).total
        z = noise(DRAWS, batch) @ mixing.T
        energy = -(vae.log_likelihood(x, z) + log_prior(z)).mean()
        found.append(torch.autograd.grad(energy - total, mixing)[0])
    return torch.stack(found)


def deviations(found: Tensor, expected: Tensor) -> Tensor:
    """The distance of a mean over batches from what is expected, in standard errors."""
    error = found.std(0) / math.sqrt(len(found))
    return (found.mean(0) - expected).abs() / error.clamp(min=1e-12)


LOWER = torch.ones(SIZE, SIZE, dtype=torch.bool).tril()


@pytest.mark.parametrize("method", ["csm", "ssm-ar"])
def test_conditional_scores_give_the_entropy_gradient_of_a_triangular_encoder(
    random_vae: Make, method: str
) -> None:
    found = entropy_gradients(linear_vae(random_vae, method, TRIANGLE))
    # H = sum_d log |M_dd| + constant, and M has no other entries.
    exact = (1 / TRIANGLE.diagonal()).diag()
    assert deviations(found, exact)[LOWER].max() < 4.5


def test_conditional_scores_give_a_biased_entropy_gradient_of_an_encoder_that_is_not_triangular(
    random_vae: Make,
) -> None:
    found = entropy_gradients(linear_vae(random_vae, "csm", FULL))
    exact = torch.linalg.inv(FULL).T  # H = log |det M| + constant
    assert deviations(found, exact).max() > 100
    # What it is instead: -E[s eps'] with s = -diag(L)^-1 L^-1 M eps.
    triangle = torch.linalg.cholesky(FULL @ FULL.T)
    instead = torch.linalg.inv(triangle) @ FULL / triangle.diagonal()[:, None]
    assert deviations(found, instead).max() < 4.5


@pytest.mark.parametrize("mixing", [TRIANGLE, FULL], ids=["triangular", "full"])
def test_joint_scores_give_the_entropy_gradient_of_any_encoder(
    random_vae: Make, mixing: Tensor
) -> None:
    found = entropy_gradients(linear_vae(random_vae, "ssm", mixing))
    assert deviations(found, torch.linalg.inv(mixing).T).max() < 4.5


# The same of the shipped encoder, whose noise is bent


class Told(ConditionalScores):
    """Scores that a test has computed from the noise."""

    told: Tensor

    def with_derivative(self, z: Tensor, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        return self.told, torch.zeros_like(z)


def test_the_shipped_encoder_has_the_entropy_gradient_that_conditional_scores_give(
    random_vae: Make, plain_walk: Make
) -> None:
    vae: VAE = random_vae(shape=(1,), latent_dim=SIZE, method="csm", hidden=(2, 3))
    encoder: Any = vae.encoder
    vae.scores = scores = Told(vae.config).double()
    with torch.no_grad():  # bent, but so that the noise can be told from the code
        encoder.bend *= 0.9 / (encoder.bend * encoder.noise).abs().sum()
    weights = list(encoder.parameters())
    batch = 1_000
    x = torch.ones(batch, 1, dtype=torch.float64)

    def flat(value: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)])

    differences = []
    for seed in range(BATCHES):
        eps = noise(batch, seed)
        z, log_scale, own = plain_walk(encoder, vae.features(x), eps)
        h = (own + eps[..., None] * encoder.noise).tanh()
        slope = 1 + (1 - h.square()) @ (encoder.bend * encoder.noise)
        curve = -2 * (h * (1 - h.square())) @ (encoder.bend * encoder.noise.square())
        # z = m + t g(eps): log q = log n(eps) - log t - log g', and dz = t g' deps.
        scores.told = ((-eps - curve / slope) / (log_scale.exp() * slope)).detach()
        entropy = (log_scale + slope.log()).sum(1).mean()
        energy = -(vae.log_likelihood(x, z) + log_prior(z)).mean()
        found = energy - vae_losses(vae, x, drawn(seed)).total
        differences.append(flat(found - entropy))
    # The largest of some two hundred.
    assert deviations(torch.stack(differences), torch.zeros(())).max() < 5.5


def test_what_reads_earlier_noise_is_biased_and_what_reads_earlier_codes_is_not() -> None:
    """z_1 = |e| + phi e, not invertible, and z_2 = theta f + c eps_2 with f max(e, 0) or z_1.

    Both are triangular in the noise, and the gradient in phi by conditional scores is the same,
    -E[s_1 dz_1/dphi]: in the first because z_2 does not depend on phi, in the second because s_2
    has mean zero given e. The entropies are not. All by quadrature.
    """
    theta, c = 1.5, 0.5
    phi = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    points, weights = np.polynomial.legendre.leggauss(120)
    z, w = torch.from_numpy(5.0 * (points + 1)), torch.from_numpy(5.0 * weights)  # on [0, 10]

    def normal(x: Tensor, scale: Any) -> Tensor:
        return torch.exp(-0.5 * (x / scale).square()) / scale / math.sqrt(2 * math.pi)

    def density(z: Tensor) -> Tensor:  # the branches e > 0 and e < 0
        return normal(z, 1 + phi) + normal(z, 1 - phi)

    def slope(q: Tensor) -> float:
        return float(torch.autograd.grad(q, phi)[0])

    first = -(w * density(z) * density(z).log()).sum()
    codes = slope(first)  # H(z_2 | z_1) is constant

    up, step = torch.linspace(-6, 26, 1601, dtype=torch.float64), 0.02
    joint = normal(z, 1 + phi)[:, None] * normal(up - theta * (z / (1 + phi))[:, None], c)
    joint = joint + normal(z, 1 - phi)[:, None] * normal(up, c)
    both = -(w[:, None] * step * torch.special.xlogy(joint, joint.clamp(min=1e-300))).sum()
    noisy = slope(both)

    estimate = 0.0
    for sign in (1.0, -1.0):  # of e
        branch = (z * (1 + sign * phi.detach())).requires_grad_()
        (score,) = torch.autograd.grad(density(branch).log().sum(), branch, retain_graph=True)
        one = torch.ones((), dtype=torch.float64)
        estimate -= float((w * normal(z, one) * score * sign * z).sum())
    assert estimate == pytest.approx(codes, abs=1e-8)
    assert abs(estimate - noisy) > 0.05
