"""The losses of VAEs: what they give to whom, and what they report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arcsm_cli.models.once import differentiable_twice
from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_config import TRIANGULAR, VAEConfig
from arcsm_cli.models.vae_scores import ConditionalScores, JointScores
from arcsm_cli.models.vae_triangular import Frame
from arcsm_cli.objectives import vae as module
from arcsm_cli.objectives.vae import particles, vae_losses
from arcsm_cli.randomness import Draws, rademacher
from arcsm_cli.registry import METHODS
from tests.objectives.noises import SIZE, Make, binary, drawn, noise, seeded

IMPLICIT = [method for method in METHODS if method != "elbo"]
ESTIMATED = ["csm", "ssm-ar", "ssm"]


# What the losses give to whom


class Given(nn.Module):
    """Stands for an estimator of any kind: scores that are a known function of the codes."""

    @staticmethod
    def scores(z: Tensor) -> Tensor:
        return 3 * torch.cos(z) - z.flip(1)


class GivenConditionals(Given, ConditionalScores):
    def forward(self, z: Tensor, features: Tensor, frame: Frame) -> Tensor:
        return self.scores(z)

    def with_derivative(self, z: Tensor, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        return self.scores(z), torch.zeros_like(z)


class GivenJoint(Given, JointScores):
    def with_scale(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(z), torch.ones_like(z)


def model_weights(vae: VAE) -> dict[str, Tensor]:
    return {n: p for n, p in vae.named_parameters() if not n.startswith("scores.")}


def gradients(loss: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    named = zip(weights.items(), found, strict=True)
    return {n: torch.zeros_like(w) if g is None else g for (n, w), g in named}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(value.abs().max() > 0 for value in other.values())
    for name, value in other.items():
        assert torch.allclose(one[name], value, rtol=1e-9, atol=1e-12), name


def surrogate(vae: VAE, x: Tensor, seed: int, s: Callable[[Tensor], Tensor]) -> Tensor:
    """-log p(x, z) + sum_d stop_grad(s_d) z_d, a mean over the batch."""
    z = vae.encode(x, noise(len(x), seed))
    energy = -(vae.log_likelihood(x, z) + log_prior(z))
    loss: Tensor = (energy + (s(z).detach() * z).sum(1)).mean()
    return loss


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("method", IMPLICIT)
def test_the_model_descends_the_energy_and_scores_times_codes(
    random_vae: Make, monkeypatch: pytest.MonkeyPatch, method: str, decoder: str
) -> None:
    vae: VAE = random_vae(method=method, decoder=decoder)
    if method in ESTIMATED:
        kind: Any = GivenConditionals if method in TRIANGULAR else GivenJoint
        vae.scores = kind(vae.config).double()
    else:
        monkeypatch.setattr(
            module, "particles", lambda vae, e, features, codes, g: (codes, Given.scores(codes))
        )
    x, weights = binary(5), model_weights(vae)
    found = gradients(vae_losses(vae, x, drawn(3)).total, weights)
    assert_close(found, gradients(surrogate(vae, x, 3, Given.scores), weights))


def estimates(vae: VAE, x: Tensor, z: Tensor) -> Tensor:
    """What a VAE's own estimator says."""
    features = vae.features(x)
    if isinstance(vae.scores, ConditionalScores):
        encoder: Any = vae.encoder
        return vae.scores(z, features, encoder.frame(features, z))
    assert vae.scores is not None
    s: Tensor = vae.scores(z, features)
    return s


@pytest.mark.parametrize("method", ESTIMATED)
def test_the_estimators_objective_gives_the_model_no_gradient(
    random_vae: Make, method: str
) -> None:
    vae: VAE = random_vae(method=method)
    x, weights = binary(5), model_weights(vae)
    found = gradients(vae_losses(vae, x, drawn(3)).total, weights)
    assert_close(found, gradients(surrogate(vae, x, 3, lambda z: estimates(vae, x, z)), weights))


@differentiable_twice()
def whole_objective(vae: VAE, x: Tensor, seed: int) -> Tensor:
    """The estimator's objective from whole Jacobians; a mean over the batch."""
    generator = seeded(seed)
    eps = torch.randn(len(x), SIZE, generator=generator, dtype=torch.float64)
    features = vae.features(x).detach()
    z = vae.encoder(vae.features(x), eps).detach().requires_grad_()
    v = rademacher(z, generator)
    if vae.config.method == "csm":
        encoder: Any = vae.encoder
        frame = encoder.frame(features, z.detach())
        scaled = frame.scale * vae.scores(z, features, frame)  # type: ignore[misc]
        # Each is weighted by its scale's square; the objective of t s at z / t is that.
        s = scaled / frame.scale
        rows = [torch.autograd.grad(s[:, d].sum(), z, create_graph=True)[0] for d in range(SIZE)]
        own = torch.stack([row[:, d] for d, row in enumerate(rows)], 1)
        return (frame.scale.square() * (0.5 * s.square() + own)).sum(1).mean()
    s, scale = estimates(vae, x, z), torch.ones_like(z)
    if isinstance(vae.scores, JointScores):
        scale = vae.scores.with_scale(z, features)[1].detach()
    elif isinstance(vae.scores, ConditionalScores):
        encoder = vae.encoder
        scale = encoder.frame(features, z)[1].detach()
    rows = [torch.autograd.grad(s[:, d].sum(), z, create_graph=True)[0] for d in range(SIZE)]
    v = scale * v
    curvature = torch.einsum("bi,bij,bj->b", v, torch.stack(rows, 1), v)
    square = (v * s).sum(1).square() if vae.config.method == "ssm-ar" else (scale * s).square()
    if square.dim() == 2:
        square = square.sum(1)
    return (curvature + 0.5 * square).mean()


@pytest.mark.parametrize("method", ESTIMATED)
def test_the_model_gives_the_estimator_no_gradient(random_vae: Make, method: str) -> None:
    vae: VAE = random_vae(method=method)
    x = binary(5)
    weights: dict[str, Tensor] = {
        n: p for n, p in vae.named_parameters() if n.startswith("scores.")
    }
    found = gradients(vae_losses(vae, x, drawn(3)).total, weights)
    expected = gradients(whole_objective(vae, x, 3), weights)
    for name, value in expected.items():  # an output's bias may have none
        assert torch.allclose(found[name], value, rtol=1e-8, atol=1e-11), name


@pytest.mark.parametrize("method", ESTIMATED)
def test_the_estimators_loss_is_reported_per_code(random_vae: Make, method: str) -> None:
    vae: VAE = random_vae(method=method)
    x = binary(5)
    reported = vae_losses(vae, x, drawn(3)).score_loss
    assert reported is not None
    assert float(reported) == pytest.approx(float(whole_objective(vae, x, 3).detach()) / SIZE)


@pytest.mark.parametrize("method", ESTIMATED)
def test_objectives_weigh_each_component_by_the_square_of_its_scale_in_expectation(
    random_vae: Make, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    vae: VAE = random_vae(method=method)
    encoder: Any = vae.encoder
    # One code under all projections of signs: the mean over the batch is that over projections.
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * SIZE)
    monkeypatch.setattr(Draws, "signs", lambda self, like: signs.to(like))
    x = binary(1).expand(len(signs), -1)
    z = vae.encode(x, noise(1, 0).expand(len(signs), -1)).detach()
    features = vae.features(x).detach()
    leaf = z.clone().requires_grad_()
    s = estimates(vae, x, leaf)
    if isinstance(vae.scores, ConditionalScores):
        frame = encoder.frame(features, z)
        scale = frame.scale.detach()
        if method == "csm":
            found = module._composite(vae.scores, z, features, frame)[1]
        else:
            found = module._sliced(vae.scores, encoder, z.clone(), features, drawn(0))[1]
    else:
        assert vae.scores is not None
        scale = vae.scores.with_scale(z, features)[1].detach()
        found = module._sliced_joint(vae.scores, z.clone(), features, drawn(0))[1]
    rows = [torch.autograd.grad(s[:, d].sum(), leaf, retain_graph=True)[0] for d in range(SIZE)]
    own = torch.stack([row[:, d] for d, row in enumerate(rows)], 1)
    exact = (scale.square() * (0.5 * s.detach().square() + own)).sum(1).mean()
    assert float(found.detach()) == pytest.approx(float(exact))


@pytest.mark.parametrize("method", ESTIMATED)
def test_an_estimator_of_wide_layers_can_be_trained(method: str) -> None:
    # Masked layers as large are computed in blocks.
    vae = VAE(VAEConfig(shape=(6,), latent_dim=3, method=method, hidden=(8, 512)))
    vae_losses(vae, binary(2).float(), drawn(0)).total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in vae.parameters())


# Particles


@pytest.mark.parametrize("method", ["stein", "spectral"])
def test_particles_are_the_codes_and_further_draws_of_the_encoder(
    random_vae: Make, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    vae: VAE = random_vae(method=method, particles=7)
    encoder: Any = vae.encoder
    seen: list[Tensor] = []

    def spy(z: Tensor) -> Tensor:
        seen.append(z)
        return 2 * z

    def other(z: Tensor) -> Tensor:
        raise AssertionError("the other estimator")

    names = ("stein_scores", "spectral_scores")
    for name in names:
        monkeypatch.setattr(module, name, spy if name.startswith(method) else other)
    features, ones = vae.features(binary(4)), torch.ones(4, SIZE).double()
    codes, found = particles(vae, encoder, features, ones, Draws(seeded(5)))
    (z,) = seen
    eps = torch.randn(4, 6, SIZE, generator=seeded(5), dtype=torch.float64)
    drawn = torch.stack([encoder(features, eps[:, i]) for i in range(6)], 1)
    assert torch.equal(z, codes)
    assert torch.equal(z[:, 0], ones)
    assert torch.allclose(z[:, 1:], drawn, rtol=1e-12)
    assert torch.equal(found, 2 * z)
    assert (codes.requires_grad, found.requires_grad) == (True, False)


@pytest.mark.parametrize("method", ["stein", "spectral"])
def test_the_entropys_gradient_is_the_mean_over_all_particles(
    random_vae: Make, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    vae: VAE = random_vae(method=method, particles=7)
    x, weights = binary(4), dict(vae.encoder.named_parameters())
    monkeypatch.setattr(module, f"{method}_scores", Given.scores)
    whole = gradients(vae_losses(vae, x, drawn(3)).total, weights)
    monkeypatch.setattr(module, f"{method}_scores", torch.zeros_like)
    energy = gradients(vae_losses(vae, x, drawn(3)).total, weights)
    draws = drawn(3)
    codes = torch.stack([draws.normal(x, SIZE), *draws.normal(x, 6, SIZE).unbind(1)], 1)
    z = vae.encoder(vae.features(x)[:, None], codes)
    entropy = gradients((Given.scores(z.detach()) * z).sum(-1).mean(), weights)
    assert_close({name: whole[name] - energy[name] for name in weights}, entropy)


# What is reported


@pytest.mark.parametrize("method", IMPLICIT)
def test_the_loss_is_minus_the_joint_log_density(random_vae: Make, method: str) -> None:
    vae: VAE = random_vae(method=method)
    x = binary(5)
    losses = vae_losses(vae, x, drawn(3))
    z = vae.encode(x, noise(5, 3))
    log_x = torch.distributions.Bernoulli(logits=vae.decoder(z)).log_prob(x).sum(1)
    log_z = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert float(losses.loss) == pytest.approx(float(-(log_x + log_z).mean().detach()))
    assert not losses.loss.requires_grad


def test_the_loss_of_a_gaussian_encoder_is_minus_the_evidence_lower_bound(
    random_vae: Make,
) -> None:
    vae: VAE = random_vae(method="elbo")
    encoder: Any = vae.encoder
    x = binary(5)
    losses = vae_losses(vae, x, drawn(3))
    mean, log_sd = encoder.moments(vae.features(x))
    q = torch.distributions.Normal(mean, log_sd.exp())
    z = mean + log_sd.exp() * noise(5, 3)
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    log_x = torch.distributions.Bernoulli(logits=vae.decoder(z)).log_prob(x).sum(1)
    bound = (log_x - torch.distributions.kl_divergence(q, p).sum(1)).mean()
    assert float(losses.loss) == pytest.approx(-float(bound.detach()))
    weights: dict[str, Tensor] = dict(vae.named_parameters())
    assert_close(gradients(losses.total, weights), gradients(-bound, weights))


@pytest.mark.parametrize("method", METHODS)
def test_a_score_loss_is_reported_where_an_estimator_is_trained(
    random_vae: Make, method: str
) -> None:
    found = vae_losses(random_vae(method=method), binary(2), drawn(0)).score_loss
    assert (found is not None) == (method in ESTIMATED)


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_a_function_of_the_generator(random_vae: Make, method: str) -> None:
    vae: VAE = random_vae(method=method)
    x = binary(3)
    one, same, other = (float(vae_losses(vae, x, drawn(s)).total.detach()) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("method", METHODS)
def test_all_weights_of_a_vae_are_trained(random_vae: Make, method: str) -> None:
    vae: VAE = random_vae(method=method, decoder="gaussian")
    vae_losses(vae, binary(4), drawn(0)).total.backward()  # type: ignore[no-untyped-call]
    idle = {n for n, p in vae.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    assert idle == set()
