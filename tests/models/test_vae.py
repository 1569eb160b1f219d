"""The networks of VAEs and their likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from arcsm_cli.models.vae import VAE, log_prior
from arcsm_cli.models.vae_config import TRIANGULAR, VAEConfig
from arcsm_cli.models.vae_networks import GaussianEncoder, ImplicitEncoder
from arcsm_cli.models.vae_triangular import TriangularEncoder
from arcsm_cli.registry import METHODS

Make = Callable[..., Any]
SIZE = 3  # codes


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def triangular(random_vae: Make) -> TriangularEncoder:
    encoder: TriangularEncoder = random_vae(method="csm", latent_dim=SIZE).encoder
    return encoder


# The triangular encoder


@pytest.mark.parametrize("k", range(SIZE))
@torch.no_grad()
def test_a_code_is_a_function_of_its_own_and_earlier_noise(
    triangular: TriangularEncoder, k: int
) -> None:
    features, eps = normal(4, 8), normal(4, SIZE, seed=1)
    other = eps.clone()
    other[:, k] += 0.5
    z, moved = triangular(features, eps), triangular(features, other)
    assert torch.equal(z[:, :k], moved[:, :k])
    assert (z[:, k:] != moved[:, k:]).all()


@torch.no_grad()
def test_a_code_depends_on_earlier_codes_and_not_on_the_noise_behind_them(
    triangular: TriangularEncoder,
) -> None:
    # Noise bent into e - 3 tanh(e), which is zero at three places: one code of several noises.
    for parameter in (triangular.context.weight, triangular.context.bias, triangular.noise):
        parameter.zero_()
    triangular.bend.zero_()
    triangular.noise[0], triangular.bend[0] = 1.0, -3.0
    low, high = 2.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 3 * math.tanh(middle) else (low, middle)
    features, eps = normal(1, 8).expand(3, -1), normal(1, SIZE, seed=1).repeat(3, 1)
    eps[:, 0] = torch.tensor([-low, 0.0, low], dtype=torch.float64)
    z = triangular(features, eps)
    assert (z - z[0]).abs().max() < 1e-12
    eps[:, 0] += 0.5
    assert (triangular(features, eps)[:, 1:] != z[:, 1:]).all()


@pytest.mark.parametrize("narrow", [False, True])
def test_codes_and_gradients_are_those_of_plain_operations(
    triangular: TriangularEncoder, plain_walk: Make, narrow: bool
) -> None:
    if narrow:  # below the least deviation, whose gradient is zero
        with torch.no_grad():
            triangular.bias[1, 1] = -30.0
    features, eps, slope = normal(4, 8).requires_grad_(), normal(4, SIZE), normal(4, SIZE, seed=2)
    weights = dict(triangular.named_parameters()) | {"features": features}
    z, plain = triangular(features, eps), plain_walk(triangular, features, eps)[0]
    assert torch.allclose(z, plain, rtol=1e-12)
    pairs = zip(
        *(torch.autograd.grad((v * slope).sum(), list(weights.values())) for v in (z, plain)),
        strict=True,
    )
    for name, (found, expected) in zip(weights, pairs, strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12), name


def test_the_frame_of_codes_is_the_one_they_were_drawn_in(triangular: TriangularEncoder) -> None:
    features = normal(5, 8)
    z, drawn = triangular.draw(features, normal(5, SIZE, seed=1))
    for found, expected in zip(triangular.frame(features, z.detach()), drawn, strict=True):
        assert torch.allclose(found, expected, rtol=1e-12)


def test_no_gradient_reaches_the_encoder_through_the_frame(triangular: TriangularEncoder) -> None:
    features = normal(5, 8).requires_grad_()
    z, drawn = triangular.draw(features, normal(5, SIZE, seed=1))
    assert not any(part.requires_grad for part in drawn)
    assert not any(part.requires_grad for part in triangular.frame(features, z.detach()))


@pytest.mark.parametrize("d", range(SIZE))
def test_the_frame_of_a_code_depends_on_earlier_codes_alone(
    triangular: TriangularEncoder, d: int
) -> None:
    z = normal(1, SIZE, seed=1).requires_grad_()
    for part in triangular.frame(normal(1, 8), z):
        (slope,) = torch.autograd.grad(part[0, d], z, retain_graph=True)
        assert (slope[0, :d] != 0).all()
        assert (slope[0, d:] == 0).all()


@torch.no_grad()
def test_the_frame_is_mean_and_deviation_of_the_code(triangular: TriangularEncoder) -> None:
    triangular.bend *= 0.2  # by five nodes only approximately where the noise is strongly bent
    features, count = normal(1, 8), 20_000
    z, frame = triangular.draw(features.expand(count, -1), normal(count, SIZE, seed=1))
    mean, deviation = frame.location[0, 0], frame.scale[0, 0]
    assert abs(float(z[:, 0].mean() - mean)) < 0.03 * deviation
    assert abs(float(z[:, 0].std() / deviation) - 1) < 0.03


@pytest.mark.parametrize("latent_dim", [1, 2, 9])
def test_a_fresh_triangular_encoder_is_gaussian(latent_dim: int) -> None:
    encoder: Any = VAE(VAEConfig(shape=(6,), latent_dim=latent_dim, hidden=(8, 7))).encoder
    features, eps = normal(5, 8).float(), normal(5, latent_dim).float()
    z, frame = encoder.draw(features, eps)
    assert torch.allclose(z, frame.location + frame.scale * eps, rtol=1e-4, atol=1e-5)


# The score estimators


@pytest.mark.parametrize(("latent_dim", "units"), [(1, 4), (3, 7), (6, 2), (9, 40)])
def test_a_conditional_score_depends_on_its_own_and_earlier_codes_alone(
    random_vae: Make, latent_dim: int, units: int
) -> None:
    vae = random_vae(method="ssm-ar", latent_dim=latent_dim, hidden=(8, units))
    features = normal(1, 8)

    def scores(z: Tensor) -> Tensor:
        s: Tensor = vae.scores(z[None], features, vae.encoder.frame(features, z[None]))[0]
        return s

    jacobian: Any = torch.autograd.functional.jacobian
    slopes = jacobian(scores, normal(latent_dim, seed=1))
    assert (slopes.triu(1) == 0).all()
    assert (slopes.diagonal() != 0).all()


@pytest.mark.parametrize("latent_dim", [2, 5])
@torch.no_grad()
def test_every_context_but_the_first_reads_all_earlier_codes(
    random_vae: Make, latent_dim: int
) -> None:
    scores = random_vae(method="csm", latent_dim=latent_dim, hidden=(8, 40)).scores
    features, z = normal(1, 8), normal(1, latent_dim)
    c = scores.contexts(z, features)[0]
    for k in range(latent_dim):
        other = z.clone()
        other[:, k] += 0.5
        moved = (scores.contexts(other, features)[0] != c).any(1)
        assert moved.tolist() == [d > k for d in range(latent_dim)]


def test_scores_with_derivatives_are_those_that_autograd_finds(random_vae: Make) -> None:
    vae = random_vae(method="csm", latent_dim=SIZE)
    features, z = normal(4, 8), normal(4, SIZE, seed=1).requires_grad_()
    frame = vae.encoder.frame(features, z.detach())
    s, ds = vae.scores.with_derivative(z.detach(), features, frame)
    again = vae.scores(z, features, frame)
    assert torch.allclose(s, again, rtol=1e-10)
    slopes = [torch.autograd.grad(again[:, d].sum(), z, retain_graph=True)[0] for d in range(SIZE)]
    own = torch.stack([slope[:, d] for d, slope in enumerate(slopes)], 1)
    assert torch.allclose(ds, own, rtol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_every_conditional_has_finite_mass_for_any_weights(
    random_vae: Make, scale: float, seed: int
) -> None:
    vae = random_vae(method="csm", latent_dim=SIZE, scale=scale, seed=seed)
    features, z = normal(1, 8), normal(1, SIZE, seed=1)
    frame = vae.encoder.frame(features, z)
    # In the frame's units the network's part is at most `bound`, and the rest pulls to 0.
    bound = float(vae.scores.score.bound.detach())
    u = torch.linspace(-bound - 20, bound + 20, 20_001, dtype=torch.float64)
    for d in range(SIZE):
        rows = z.expand(len(u), -1).clone()
        rows[:, d] = frame.location[0, d] + frame.scale[0, d] * u
        s = frame.scale[0, d] * vae.scores(rows, features, frame)[:, d]
        assert ((s + u).abs() <= bound * (1 + 1e-9) + 1e-9).all()
        pull = -s * u.sign()
        assert (pull >= u.abs() - bound - 1e-6).all()
        log_density = torch.cumulative_trapezoid(s, u)
        density = (log_density - log_density.max()).exp()
        assert density[0] < 1e-12 > density[-1]


@torch.no_grad()
def test_the_joint_scores_pull_back_in_the_tails(random_vae: Make) -> None:
    vae = random_vae(method="ssm", latent_dim=SIZE, scale=3.0)
    features = normal(64, 8)
    direction = torch.nn.functional.normalize(normal(64, SIZE, seed=1), dim=1)
    s, t = vae.scores.with_scale(1e9 * direction, features)
    assert ((s * t * direction).sum(1) < 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_method_decides_the_encoder(random_vae: Make, method: str) -> None:
    encoder = random_vae(method=method).encoder
    expected: Any = TriangularEncoder if method in TRIANGULAR else ImplicitEncoder
    assert type(encoder) is (GaussianEncoder if method == "elbo" else expected)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_codes_of_an_example_do_not_depend_on_its_batch(random_vae: Make, method: str) -> None:
    vae = random_vae(method=method)
    x, eps = normal(4, 6).sigmoid(), normal(4, SIZE, seed=1)
    assert torch.allclose(vae.encode(x, eps)[2:3], vae.encode(x[2:3], eps[2:3]), rtol=1e-10)


# Likelihoods


def test_the_likelihood_of_binary_data_is_a_product_of_bernoullis(random_vae: Make) -> None:
    vae = random_vae()
    x, logits = normal(7, 6).gt(0).double(), 5 * normal(7, 6, seed=1)
    expected = Bernoulli(logits=logits).log_prob(x).sum(1)
    assert torch.allclose(vae.log_likelihood_of(x, logits), expected, rtol=1e-12)


def test_the_likelihood_of_binary_data_has_the_gradient_of_a_product_of_bernoullis(
    random_vae: Make,
) -> None:
    x, logits = normal(7, 6).gt(0).double(), (5 * normal(7, 6, seed=1)).requires_grad_()
    slope = normal(7, seed=2)
    found, expected = (
        torch.autograd.grad((slope * log_p).sum(), logits)[0]
        for log_p in (
            random_vae().log_likelihood_of(x, logits),
            Bernoulli(logits=logits).log_prob(x).sum(1),
        )
    )
    assert torch.allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_extreme_logits_have_finite_likelihoods_and_right_gradients(
    random_vae: Make, logit: float, dtype: torch.dtype
) -> None:
    vae = random_vae(shape=(2,)).to(dtype)
    x = torch.tensor([[0.0, 1.0]], dtype=dtype)
    logits = torch.full((1, 2), logit, dtype=dtype, requires_grad=True)
    found = vae.log_likelihood_of(x, logits)
    # log(1 - s) + log s
    assert float(found.detach()) == pytest.approx(-abs(logit) if logit else -2 * math.log(2))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    expected = x - torch.full_like(x, logit).sigmoid()
    assert torch.allclose(slope, expected, atol=1e-7)


def test_the_likelihood_of_continuous_data_is_a_product_of_normals(random_vae: Make) -> None:
    vae = random_vae(decoder="gaussian")
    x, out = normal(7, 6), normal(7, 6, seed=1).requires_grad_()
    found = vae.log_likelihood_of(x, out)
    expected = Normal(out, vae.log_sd.exp()).log_prob(x).sum(1)
    assert torch.allclose(found, expected, rtol=1e-12)
    pairs = zip(
        *(torch.autograd.grad(v.square().sum(), [out, vae.log_sd]) for v in (found, expected)),
        strict=True,
    )
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in pairs)


def test_the_deviation_of_a_gaussian_decoder_cannot_vanish(random_vae: Make) -> None:
    vae = random_vae(decoder="gaussian")
    x = normal(2, 6)
    with torch.no_grad():
        vae.log_sd.fill_(-1e6)
    assert vae.log_likelihood_of(x, x).isfinite().all()


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_residual_is_the_gradient_of_the_likelihood(random_vae: Make, decoder: str) -> None:
    vae = random_vae(decoder=decoder)
    x, out = normal(5, 6).gt(0).double(), normal(5, 6, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(vae.log_likelihood_of(x, out).sum(), out)
    assert torch.allclose(vae.residual(x, out.detach()), expected, atol=1e-6)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@torch.no_grad()
def test_the_likelihood_of_codes_is_that_of_what_is_decoded(random_vae: Make, decoder: str) -> None:
    vae = random_vae(decoder=decoder)
    x, z = normal(5, 6).gt(0).double(), normal(5, SIZE)
    assert torch.equal(vae.log_likelihood(x, z), vae.log_likelihood_of(x, vae.decoder(z)))


def test_the_prior_is_standard_normal() -> None:
    z = normal(5, SIZE)
    assert torch.allclose(log_prior(z), Normal(0.0, 1.0).log_prob(z).sum(1), rtol=1e-12)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@torch.no_grad()
def test_what_is_drawn_given_a_code_has_the_decoders_mean(random_vae: Make, decoder: str) -> None:
    vae, count = random_vae(decoder=decoder), 40_000
    z = normal(1, SIZE)
    drawn = vae.observe(z.expand(count, -1), normal(count, 6, seed=1))
    error = drawn.std(0) / math.sqrt(count)
    assert ((drawn.mean(0) - vae.mean(z)[0]).abs() < 4.5 * error).all()
    if decoder == "bernoulli":
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
    else:
        assert torch.allclose(drawn.std(0), vae.log_sd.exp(), rtol=0.02)


def test_examples_come_back_in_file_units_and_shape(random_vae: Make) -> None:
    vae = random_vae(
        shape=(2, 2, 2), decoder="gaussian", data_shift=tuple(range(8)), data_scale=(2.0,)
    )
    x = normal(3, 2, 2, 2)
    rows = vae.flatten(x)
    assert torch.allclose(rows[:, 3], (x[:, 0, 1, 1] - 3) / 2)
    assert torch.allclose(vae.unflatten(rows), x)
    assert vae.units.log_scale == pytest.approx(8 * math.log(2))


# Convolutions


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((1, 8, 8), (2,)), ((3, 8, 12), (4, 2)), ((1, 16, 8), (2, 3, 4)), ((2, 2, 2), (5,))],
    ids=str,
)
@torch.no_grad()
def test_convolutions_read_and_give_images_of_sides_that_their_strides_allow(
    random_vae: Make, shape: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    vae = random_vae(shape=shape, network="conv", channels=channels)
    x = normal(2, *shape).sigmoid()
    z = vae.encode(vae.flatten(x), normal(2, SIZE))
    assert vae.unflatten(vae.mean(z)).shape == x.shape


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((1, 7, 8), (2,)), ((3, 8, 6), (4, 2)), ((1, 28, 28), (2, 3, 4)), ((1, 1, 1), (5,))],
    ids=str,
)
def test_other_sides_are_refused(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    config = VAEConfig(shape=shape, latent_dim=2, network="conv", channels=channels)
    with pytest.raises(ValueError, match="multiples of"):
        VAE(config)


@torch.no_grad()
def test_a_pixel_is_read_by_the_convolutions_where_it_lies(random_vae: Make) -> None:
    # A 5 x 5 window sees two pixels to each side of every second one.
    vae = random_vae(shape=(1, 8, 8), network="conv", channels=(2,))
    layer = vae.features.convolutions[0]
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    spot = x.clone()
    spot[0, 0, 5, 2] = 1.0
    moved = (layer(spot) != layer(x))[0].any(0).nonzero().tolist()
    assert moved == [[r, c] for r in (2, 3) for c in (0, 1, 2)]
