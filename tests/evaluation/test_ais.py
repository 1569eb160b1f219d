"""Annealed importance sampling of decoders whose marginal likelihoods are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.evaluation.ais import AnnealedSampling
from arcsm_cli.evaluation.vae_metrics import DecoderLikelihood
from arcsm_cli.randomness import SampleNoise

Make = Callable[..., Any]
CODES = 2
WEIGHT = torch.tensor([[1.0, -0.5], [0.4, 1.2], [-0.7, 0.3]])  # (D, L)


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + sd noise, for rows of codes; sums by elements, so that rows do not interact."""

    x: Tensor
    sd: float = 0.4

    def _residual(self, z: Tensor) -> Tensor:
        return self.x - (z[:, None, :] * WEIGHT).sum(-1)

    def value(self, z: Tensor) -> Tensor:
        square = (self._residual(z) / self.sd).square().sum(1)
        return -0.5 * square - self.x.shape[1] * (math.log(self.sd) + 0.5 * math.log(2 * math.pi))

    def gradient(self, z: Tensor) -> Tensor:
        return (self._residual(z)[:, :, None] * WEIGHT).sum(1) / self.sd**2

    def exact(self) -> Tensor:
        """log p(x) of the rows."""
        covariance = WEIGHT @ WEIGHT.T + self.sd**2 * torch.eye(3)
        zero = torch.zeros(3, dtype=torch.float64)
        marginal = torch.distributions.MultivariateNormal(zero, covariance.double())
        return marginal.log_prob(self.x.double())


def examples(count: int, sd: float = 0.4) -> Tensor:
    """Draws of the model, (count, 3)."""
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(count, CODES, generator=generator), torch.randn(
        count, 3, generator=generator
    )  # fmt: skip
    return z @ WEIGHT.T + sd * noise


def estimate(
    x: Tensor, annealing: AnnealedSampling, *, sd: float = 0.4, first: int = 0, seed: int = 0
) -> Tensor:
    """Estimates of log p(x), (B,)."""
    likelihood = LinearGaussian(x.repeat_interleave(annealing.chains, 0), sd)
    noise = SampleNoise(seed, range(first, first + len(x)))
    return annealing(likelihood, CODES, noise)


# The estimate


def test_the_marginal_likelihood_of_a_linear_decoder_is_found() -> None:
    x = examples(20)
    found = estimate(x, AnnealedSampling())  # as in the published comparisons
    exact = LinearGaussian(x).exact()
    assert abs(float((found - exact).mean())) < 0.1
    assert (found - exact).abs().max() < 0.5


def test_more_temperatures_come_closer() -> None:
    x = examples(60, sd=0.1)
    exact = LinearGaussian(x, 0.1).exact()
    errors = [
        float((estimate(x, AnnealedSampling(4, count, 3), sd=0.1) - exact).abs().mean())
        for count in (4, 20, 100)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_more_chains_come_closer() -> None:
    x = examples(100, sd=0.2)
    exact = LinearGaussian(x, 0.2).exact()
    errors = [
        float((estimate(x, AnnealedSampling(count, 10, 3), sd=0.2) - exact).abs().mean())
        for count in (1, 16)
    ]
    assert errors[0] > 1.5 * errors[1]


def test_few_temperatures_give_a_lower_bound_in_expectation() -> None:
    x = examples(100, sd=0.2)
    found = estimate(x, AnnealedSampling(2, 5, 3), sd=0.2)
    assert float((found - LinearGaussian(x, 0.2).exact()).mean()) < -0.1


def test_the_weights_are_unbiased() -> None:
    x = examples(1).expand(4000, -1)
    found = estimate(x, AnnealedSampling(2, 6, 2))
    ratio = (found - LinearGaussian(x[:1]).exact()).exp()
    assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / math.sqrt(len(ratio))


def test_two_temperatures_are_importance_sampling_from_the_prior() -> None:
    x, chains = examples(3), 5
    z = SampleNoise(0, range(3)).normal(chains, CODES).view(-1, CODES)
    weights = LinearGaussian(x.repeat_interleave(chains, 0)).value(z).double().view(3, chains)
    expected = weights.logsumexp(1) - math.log(chains)
    assert torch.allclose(estimate(x, AnnealedSampling(chains, 2)), expected, rtol=1e-6)


def test_a_likelihood_that_ignores_the_code_is_found_exactly() -> None:
    class Constant:
        def value(self, z: Tensor) -> Tensor:
            return torch.full_like(z[:, 0], -700.0)

        def gradient(self, z: Tensor) -> Tensor:
            return torch.zeros_like(z)

    found = AnnealedSampling(3, 15, 2)(Constant(), CODES, SampleNoise(0, range(4)))
    assert torch.allclose(found, torch.full_like(found, -700.0), rtol=1e-9)


def test_codes_without_a_likelihood_are_never_moved_to() -> None:
    class Edge(LinearGaussian):
        def value(self, z: Tensor) -> Tensor:
            return torch.where(z[:, 0] < 3.5, super().value(z), torch.nan)

    x = examples(10)
    found = AnnealedSampling(4, 50)(
        Edge(x.repeat_interleave(4, 0)), CODES, SampleNoise(0, range(10))
    )
    assert found.isfinite().all()


# The moves


def test_a_trajectory_leaves_the_annealed_posterior_as_it_is(
    assert_uniform: Callable[[Tensor], None],
) -> None:
    # p(z) p(x|z)^b of one code z: precision 1 + b (w / sd)^2.
    weight, sd, b, count, x = 1.5, 0.8, 0.6, 4000, 2.0
    precision = 1 + b * (weight / sd) ** 2
    mean = b * weight * x / sd**2 / precision

    class One:
        def value(self, z: Tensor) -> Tensor:
            return -0.5 * ((x - weight * z[:, 0]) / sd).square()

        def gradient(self, z: Tensor) -> Tensor:
            return weight * (x - weight * z) / sd**2

    generator = torch.Generator().manual_seed(0)
    start, momentum, coin = (torch.randn(count, 1, generator=generator) for _ in range(3))
    z, one = mean + start / math.sqrt(precision), One()
    state = z, one.value(z), one.gradient(z)
    # Steps so long that a good part is refused: what is kept must make up for it.
    moved = AnnealedSampling(leapfrog=3)._trajectory(
        one, b, state, momentum, coin[:, 0], torch.tensor(0.95)
    )
    assert 0.3 < float(moved[3].mean()) < 0.95
    assert_uniform(torch.special.ndtr((moved[0][:, 0] - mean) * math.sqrt(precision)))
    assert torch.equal(moved[1], one.value(moved[0]))
    assert torch.equal(moved[2], one.gradient(moved[0]))


def test_steps_adapt_to_the_acceptance_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    move = AnnealedSampling._trajectory

    def spy(self: AnnealedSampling, *arguments: Any) -> Any:
        result = move(self, *arguments)
        rates.append(float(result[3].mean()))
        return result

    monkeypatch.setattr(AnnealedSampling, "_trajectory", spy)
    # Of a sharp posterior, where the first step is far too long at the end.
    estimate(examples(10, sd=0.02), AnnealedSampling(8, 400, 5), sd=0.02)
    assert sum(rates[-100:]) / 100 == pytest.approx(0.65, abs=0.1)


# The schedule


@pytest.mark.parametrize("temperatures", [2, 3, 10, 1000])
def test_the_schedule_rises_from_zero_to_one(temperatures: int) -> None:
    schedule = AnnealedSampling(temperatures=temperatures).schedule()
    assert len(schedule) == temperatures
    assert (schedule[0], schedule[-1]) == (0, 1)
    assert (schedule.diff() > 0).all()


@pytest.mark.parametrize("temperatures", [2, 3, 10, 1000])
def test_the_schedule_is_symmetric(temperatures: int) -> None:
    schedule = AnnealedSampling(temperatures=temperatures).schedule()
    assert torch.allclose(schedule + schedule.flip(0), torch.ones_like(schedule), atol=1e-6)


def test_the_schedule_is_a_sigmoid() -> None:
    schedule = AnnealedSampling(temperatures=9, radius=4.0).schedule()
    ends = [1 / (1 + math.exp(4 * sign)) for sign in (1, -1)]
    logits = torch.logit(ends[0] + schedule * (ends[1] - ends[0]))
    assert torch.allclose(logits, torch.linspace(-4, 4, 9).double(), atol=1e-5)


def test_the_defaults_are_the_published_ones() -> None:
    defaults = AnnealedSampling()
    assert (defaults.chains, defaults.temperatures, defaults.leapfrog) == (16, 1000, 10)
    assert (defaults.radius, defaults.acceptance) == (4.0, 0.65)


# Progress and randomness


def test_every_temperature_after_the_first_is_a_tick() -> None:
    ticks: list[int] = []
    x = examples(2).repeat_interleave(3, 0)
    AnnealedSampling(3, 12, 1)(LinearGaussian(x), CODES, SampleNoise(0, range(2)), ticks.append)
    assert ticks == [1] * 11


def test_an_estimate_depends_on_the_example_its_number_and_the_seed_alone() -> None:
    x, annealing = examples(5), AnnealedSampling(4, 30, 3)
    whole = estimate(x, annealing)
    parts = [estimate(x[i : i + n], annealing, first=i) for i, n in ((0, 2), (2, 1), (3, 2))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-4)


@pytest.mark.parametrize("other", [{"first": 1}, {"seed": 1}], ids=str)
def test_other_numbers_and_seeds_give_other_estimates(other: dict[str, int]) -> None:
    x, annealing = examples(1), AnnealedSampling(4, 30, 3)
    assert float(estimate(x, annealing)) != float(estimate(x, annealing, **other))


# Of a VAE


def test_the_likelihood_of_a_decoder_has_the_gradient_that_autograd_finds(
    random_vae: Make,
) -> None:
    for decoder, network in itertools.product(["bernoulli", "gaussian"], ["mlp", "conv"]):
        channels = {"network": "conv", "channels": (2,)} if network == "conv" else {}
        vae = random_vae(shape=(1, 2, 2), decoder=decoder, **channels).float()
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(6, 4, generator=generator).round()
        z = torch.randn(6, 3, generator=generator)
        likelihood, leaf = DecoderLikelihood(vae, x), z.clone().requires_grad_()
        (expected,) = torch.autograd.grad(vae.log_likelihood(x, leaf).sum(), leaf)
        assert torch.allclose(likelihood.gradient(z), expected, rtol=1e-4, atol=1e-6)
        assert torch.allclose(likelihood.value(z), vae.log_likelihood(x, z).detach())


def test_gradients_of_low_precision_are_near_and_leave_the_weights_exact(random_vae: Make) -> None:
    vae = random_vae(shape=(6,)).float().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 6, generator=generator).round()
    z = torch.randn(8, 3, generator=generator)
    rough, exact = DecoderLikelihood(vae, x, low_precision=True), DecoderLikelihood(vae, x)
    assert torch.equal(rough.value(z), exact.value(z))
    difference = rough.gradient(z).float() - exact.gradient(z)
    assert 0 < difference.norm() < 0.05 * exact.gradient(z).norm()


def test_gradients_of_low_precision_lead_to_the_same_estimate(random_vae: Make) -> None:
    vae = random_vae(shape=(6,), scale=2.0).float().requires_grad_(False)
    count, annealing = 10, AnnealedSampling(8, 100, 5)
    x = torch.rand(count, 6, generator=torch.Generator().manual_seed(0)).round()
    rows = x.repeat_interleave(8, 0)
    found = [
        annealing(DecoderLikelihood(vae, rows, low), 3, SampleNoise(0, range(count)))
        for low in (True, False)
    ]
    difference = found[0] - found[1]
    assert difference.abs().max() < 0.3
    assert abs(float(difference.mean())) < 0.05
