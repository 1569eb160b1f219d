"""Bounds on the likelihood of VAEs, against marginal likelihoods that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation import vae_metrics as module
from arcsm_cli.evaluation.ais import AnnealedSampling
from arcsm_cli.evaluation.vae_metrics import (
    METRICS,
    Likelihoods,
    check_metrics,
    evaluate_vae,
    propose,
    ticks,
    vae_density,
    vae_summary,
)
from arcsm_cli.models.vae import VAE
from arcsm_cli.models.vae_networks import GaussianEncoder, ImplicitEncoder
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.registry import METHODS

Make = Callable[..., Any]
DIMENSIONS, CODES = 4, 2
SHIFT, SCALE = (1.0, -2.0, 0.0, 3.0), (2.0, 0.5, 1.0, 4.0)
WEIGHT = torch.tensor([[1.0, -0.5], [0.4, 1.2], [-0.7, 0.3], [0.2, 0.1]])
SD = 0.5
QUICK = AnnealedSampling(2, 6, 2)


@pytest.fixture
def linear(random_vae: Make) -> Callable[..., VAE]:
    """Makes VAEs of vectors with a linear decoder: x = W z + noise in the model's scale."""

    def make(method: str = "elbo", **config: Any) -> VAE:
        settings = {"data_shift": SHIFT, "data_scale": SCALE, "decoder": "gaussian"} | config
        vae: VAE = random_vae(
            shape=(DIMENSIONS,), latent_dim=CODES, method=method, **settings
        ).float()
        decoder: Any = nn.Linear(CODES, DIMENSIONS)
        with torch.no_grad():
            decoder.weight.copy_(WEIGHT)
            decoder.bias.fill_(0.3)
            vae.log_sd.fill_(math.log(SD))
        vae.decoder = decoder
        return vae

    return make


def marginal(scaled: bool = True) -> MultivariateNormal:
    """p(x), of file units or of the model's scale."""
    scale = torch.tensor(SCALE if scaled else (1.0,) * 4, dtype=torch.float64)
    shift = torch.tensor(SHIFT if scaled else (0.0,) * 4, dtype=torch.float64)
    covariance = (WEIGHT @ WEIGHT.T + SD**2 * torch.eye(DIMENSIONS)).double()
    return MultivariateNormal(shift + 0.3 * scale, scale[:, None] * covariance * scale)


@pytest.fixture(scope="module")
def data() -> Dataset:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dataset("drawn", marginal().sample((40,)).float())


def figures(vae: VAE, data: Dataset, *metrics: str, **how: Any) -> dict[str, Tensor]:
    size = how.pop("batch_size", 16)
    batches = list(evaluate_vae(vae, data, Likelihoods(list(metrics), **how), batch_size=size))
    return {name: torch.cat([batch.figures[name] for batch in batches]) for name in metrics}


class Posterior(GaussianEncoder):
    """N(mean, sd^2) of a linear decoder with orthogonal columns, given x itself as features."""

    weight: Tensor

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1 + self.weight.square().sum(0) / SD**2
        mean = (features - 0.3) @ self.weight / SD**2 / precision
        return mean, (-0.5 * precision.log()).expand_as(mean)


# Bounds


def test_with_the_posterior_as_encoder_both_bounds_are_the_likelihood(linear: Make) -> None:
    vae = linear(data_shift=(0.0,), data_scale=(1.0,))
    weight = torch.tensor([[1.0, -0.5], [0.5, 1.0], [0.0, 0.0], [0.0, 0.0]])  # orthogonal
    encoder = Posterior(vae.config)
    encoder.weight = weight
    vae.encoder, vae.features = encoder, nn.Identity()
    with torch.no_grad():
        vae.decoder.weight.copy_(weight)
    x = torch.randn(9, DIMENSIONS, generator=torch.Generator().manual_seed(0))
    covariance = (weight @ weight.T + SD**2 * torch.eye(DIMENSIONS)).double()
    exact = MultivariateNormal(torch.full((4,), 0.3).double(), covariance).log_prob(x.double())
    found = figures(vae, Dataset("x", x), "elbo", "iwae", importance_samples=3)
    for values in found.values():
        assert torch.allclose(values, -exact, rtol=0, atol=2e-5)


class Broad(ImplicitEncoder):
    """Draws of roughly the posterior, without a density that is known here; features are x."""

    def forward(self, features: Tensor, eps: Tensor) -> Tensor:
        return 0.5 * features @ WEIGHT + eps + 0.3 * torch.sin(3 * eps)


@pytest.mark.parametrize("method", ["elbo", "csm", "ssm"])
def test_the_importance_weighted_bound_comes_to_the_likelihood_from_below(
    linear: Make, data: Dataset, method: str
) -> None:
    vae, exact = linear(method), marginal().log_prob(data.values.double())
    if method == "elbo":  # the prior
        for parameter in vae.encoder.out.parameters():
            nn.init.zeros_(parameter)
    elif method == "ssm":
        vae.encoder, vae.features = Broad(vae.config), nn.Identity()
    means = []
    for count in (1, 10, 100, 5000):
        found = figures(vae, data, "iwae", importance_samples=count)["iwae"]
        means.append(float((exact + found).mean()))
    assert means[0] > means[1] > means[2]
    assert abs(means[3]) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_the_evidence_lower_bound_is_below_the_importance_weighted_one(
    linear: Make, data: Dataset, method: str
) -> None:
    found = figures(linear(method), data, "elbo", "iwae", importance_samples=200)
    assert (found["elbo"] >= found["iwae"]).all()


def test_with_one_sample_the_bounds_are_one(linear: Make, data: Dataset) -> None:
    found = figures(linear(), data, "elbo", "iwae", importance_samples=1)
    assert torch.allclose(found["elbo"], found["iwae"])


def test_the_evidence_lower_bound_of_a_gaussian_encoder_is_that_of_training(
    linear: Make, data: Dataset
) -> None:
    vae = linear()
    found = figures(vae, data, "elbo", importance_samples=4000)["elbo"]
    rows = vae.flatten(data.values)
    mean, log_sd = vae.encoder.moments(vae.features(rows))
    out, variance = vae.decoder(mean), (2 * log_sd).exp() @ WEIGHT.square().T
    # E log p(x|z) of a linear decoder, and the divergence, in closed form.
    square = ((rows - out).square() + variance).sum(1) / SD**2
    log_x = -0.5 * square - DIMENSIONS * (math.log(SD) + 0.5 * math.log(2 * math.pi))
    divergence = 0.5 * (mean.square() + (2 * log_sd).exp() - 1 - 2 * log_sd).sum(1)
    exact = divergence - log_x + sum(map(math.log, SCALE))
    assert (found - exact).abs().max() < 1  # by 4,000 samples
    assert abs(float((found - exact).mean())) < 0.1


def test_figures_do_not_depend_on_how_many_codes_are_decoded_at_a_time(
    linear: Make, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = linear("csm")
    whole = figures(vae, data, "elbo", "iwae", importance_samples=50)
    monkeypatch.setattr(module, "_ROWS", 3 * 16)
    parts = figures(vae, data, "elbo", "iwae", importance_samples=50)
    assert all(torch.allclose(whole[name], parts[name], rtol=1e-5) for name in whole)


# Annealing


def test_the_likelihood_by_annealing_is_that_in_file_units(linear: Make, data: Dataset) -> None:
    some = data.limit(10)
    exact = marginal().log_prob(some.values.double())
    found = figures(linear("csm"), some, "ais", annealing=AnnealedSampling(8, 200, 5))["ais"]
    assert abs(float((found + exact).mean())) < 0.1


def test_figures_of_images_are_those_of_the_models_scale(linear: Make) -> None:
    vae = linear(data_shift=(0.5,), data_scale=(0.5,))
    images = Dataset("x", torch.rand(6, 4, generator=torch.Generator().manual_seed(0)))
    vectors = figures(vae, images, "iwae")["iwae"]
    object.__setattr__(vae.config, "shape", (1, 2, 2))
    squares = Dataset("x", images.values.view(6, 1, 2, 2))
    assert torch.allclose(figures(vae, squares, "iwae")["iwae"], vectors - 4 * math.log(0.5))


# Proposals


@pytest.mark.parametrize("method", ["csm", "ssm"])
def test_the_proposal_of_an_implicit_encoder_has_the_mean_and_widened_spread_of_its_draws(
    random_vae: Make, method: str
) -> None:
    vae = random_vae(method=method).float()
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)).round()
    proposal = propose(vae, x, SampleNoise(0, range(3)))
    count = 20_000
    eps = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    for i in range(3):
        z = vae.encode(x[i : i + 1].expand(count, -1), eps)
        covariance = 1.2 * torch.cov(z.T)
        found = proposal.factor[i] @ proposal.factor[i].T
        # Of 256 draws.
        assert ((proposal.mean[i] - z.mean(0)) / z.std(0)).abs().max() < 0.3
        assert (found - covariance).norm() < 0.4 * covariance.norm()


def test_the_density_of_a_proposal_is_that_of_its_draws(random_vae: Make) -> None:
    vae = random_vae(method="ssm").float()
    proposal = propose(vae, torch.ones(2, 6), SampleNoise(0, range(2)))
    eps = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    exact = MultivariateNormal(
        proposal.mean[:, None], scale_tril=proposal.factor[:, None].expand(-1, 5, -1, -1)
    )
    assert torch.allclose(
        proposal.log_density(eps), exact.log_prob(proposal.draw(eps)), rtol=1e-4, atol=1e-4
    )


def test_a_proposal_is_fitted_to_the_draws_of_each_example(linear: Make) -> None:
    class Known(ImplicitEncoder):
        def forward(self, features: Tensor, eps: Tensor) -> Tensor:
            return features[:, :2] + eps * torch.tensor([2.0, 0.01])

    vae = linear("ssm")
    vae.encoder, vae.features = Known(vae.config), nn.Identity()
    x = torch.tensor([[0.0, 0.0, 0, 0], [5.0, -7.0, 0, 0]])
    proposal = propose(vae, x, SampleNoise(0, range(2)))
    assert torch.allclose(proposal.mean, x[:, :2], atol=0.5)
    widths = (proposal.factor @ proposal.factor.mT).diagonal(dim1=1, dim2=2).sqrt()
    expected = math.sqrt(1.2) * torch.tensor([2.0, 0.01]).expand(2, -1)
    assert torch.allclose(widths, expected, rtol=0.2)


def test_more_codes_than_draws_can_be_proposed(random_vae: Make) -> None:
    vae = random_vae(method="ssm", latent_dim=300, hidden=(8, 8)).float()
    found = figures(vae, binary_images(2), "elbo", "iwae", importance_samples=5)
    assert all(values.isfinite().all() for values in found.values())


# Binary data


def binary_images(count: int = 8) -> Dataset:
    values = torch.rand(count, 6, generator=torch.Generator().manual_seed(3))
    return Dataset("grey", values)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("metrics", [["elbo"], ["ais"], list(METRICS)])
def test_examples_are_binarised_alike_whatever_is_computed(
    random_vae: Make, batch_size: int, metrics: list[str]
) -> None:
    vae, data = random_vae().float(), binary_images()
    how = Likelihoods(metrics, QUICK, 3)
    found = torch.cat([b.examples for b in evaluate_vae(vae, data, how, batch_size=batch_size)])
    first = next(evaluate_vae(vae, data, Likelihoods(["iwae"], QUICK, 2), batch_size=8)).examples
    assert torch.equal(found, first)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_grey_values_are_probabilities(random_vae: Make) -> None:
    count = 4000
    levels = torch.linspace(0, 1, 6)
    data = Dataset("grey", levels.repeat(count, 1))
    how = Likelihoods(["elbo"], importance_samples=1)
    (batch,) = evaluate_vae(random_vae(method="elbo").float(), data, how, batch_size=count)
    error = (levels * (1 - levels) / count).sqrt()
    assert ((batch.examples.mean(0) - levels).abs() <= 4.5 * error).all()


def test_another_seed_binarises_otherwise(random_vae: Make) -> None:
    vae, data = random_vae().float(), binary_images()
    one, other = (
        next(evaluate_vae(vae, data, Likelihoods(["elbo"], seed=seed))).examples for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_continuous_data_are_taken_as_they_are(linear: Make, data: Dataset) -> None:
    batches = evaluate_vae(linear(), data, Likelihoods(["elbo"], importance_samples=1))
    found = torch.cat([batch.examples for batch in batches])
    assert torch.allclose(found, data.values, rtol=1e-5, atol=1e-5)


# Numbers, progress and refusals


@pytest.mark.parametrize("method", ["elbo", "csm", "ssm"])
def test_figures_of_an_example_do_not_depend_on_its_batch(random_vae: Make, method: str) -> None:
    vae, data = random_vae(method=method).float(), binary_images()
    how: dict[str, Any] = {"annealing": QUICK, "importance_samples": 20}
    whole, alone = (figures(vae, data, *METRICS, batch_size=n, **how) for n in (8, 1))
    for name in METRICS:
        assert torch.allclose(whole[name], alone[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metrics", [["elbo"], ["iwae"], ["ais"], ["ais", "elbo"]])
def test_only_what_is_asked_for_is_given_in_its_order(random_vae: Make, metrics: list[str]) -> None:
    how = Likelihoods(metrics, QUICK, 2)
    batch = next(evaluate_vae(random_vae().float(), binary_images(), how))
    assert list(batch.figures) == metrics
    assert all(values.shape == (8,) for values in batch.figures.values())


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
@pytest.mark.parametrize("metrics", [["elbo"], ["ais"], ["elbo", "ais"]])
def test_progress_comes_to_what_was_announced(
    random_vae: Make, batch_size: int, metrics: list[str]
) -> None:
    seen: list[int] = []
    data, how = binary_images(), Likelihoods(metrics, QUICK, 2)
    vae = random_vae().float()
    for _ in evaluate_vae(vae, data, how, batch_size=batch_size, tick=seen.append):
        pass
    assert sum(seen) == ticks(data, how, batch_size)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3), (2, 3)])
def test_examples_of_another_shape_are_refused(random_vae: Make, shape: tuple[int, ...]) -> None:
    if len(shape) == 2:
        shape = (1, *shape)
    data = Dataset("other.npy", torch.zeros(4, *shape))
    vae = random_vae().float()
    with pytest.raises(DamagedInputError, match=r"other\.npy"):
        next(evaluate_vae(vae, data, Likelihoods(["elbo"])))
    with pytest.raises(DamagedInputError, match=r"other\.npy"):
        check_metrics(vae, data, [])


@pytest.mark.parametrize("method", ["elbo", "csm", "ssm"])
@pytest.mark.parametrize("scale", [1e6, 1e20])
def test_weights_that_overflow_are_refused(random_vae: Make, method: str, scale: float) -> None:
    vae = random_vae(method=method).float()
    with torch.no_grad():
        for parameter in vae.encoder.parameters():
            parameter.mul_(scale)
        vae.decoder.third.weight.fill_(1e38)
    with pytest.raises(DamagedInputError, match="not numbers"):
        next(evaluate_vae(vae, binary_images(), Likelihoods(["elbo", "iwae"])))


def test_a_summary_gives_means_and_their_standard_errors() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    found = vae_summary({"elbo": values, "ais": values + 1})
    assert list(found) == ["elbo", "elbo_se", "ais", "ais_se"]
    assert found["elbo"] == 4
    assert found["ais_se"] == pytest.approx(values.std(ddof=1) / 2)


def test_one_example_has_no_standard_error() -> None:
    assert math.isnan(vae_summary({"elbo": np.array([1.0])})["elbo_se"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "probabilities of binarised examples"),
        ({"decoder": "gaussian"}, "file units"),
        ({"decoder": "gaussian", "shape": (1, 2, 3)}, r"images in \[-1, 1\]"),
        ({"shape": (1, 2, 3)}, "binarised"),
    ],
    ids=str,
)
def test_the_output_says_which_likelihood_it_is(
    random_vae: Make, config: dict[str, Any], words: str
) -> None:
    import re

    assert re.search(words, vae_density(random_vae(**config)))
