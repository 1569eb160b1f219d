"""A model of any order beside the truth: all conditionals of a correlated Gaussian."""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from arcsm_cli.data.batch import Batch, nothing_given
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.data.twod import gaussian_covariance
from arcsm_cli.evaluation.any_order import Question, part_log_likelihood
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import Follower

SIGMA, D = 0.05, 16


def log_p(x: Tensor, covariance: Tensor, part: Tensor) -> Tensor:
    """The log density of some columns of x (N, D), in nats."""
    if not len(part):
        return x.new_zeros(len(x))
    return MultivariateNormal(x.new_zeros(len(part)), covariance[part][:, part]).log_prob(
        x[:, part]
    )


def test_every_conditional_is_near_the_truth() -> None:
    given = load_training(f"gaussian:{D}", DataOptions())
    choices = Choices(
        context="transformer", order="any", objective="mle", likelihood="gaussian", sigma_min=SIGMA
    )
    settings = TrainSettings(
        steps=600, batch_size=256, lr=2e-3, objective="mle", validate_every=600, seed=0
    )
    state = fresh_state(model_config(given.train, choices), settings, "cpu")
    train(state, given.train, given.valid, Follower())
    model = state.averaged_model().eval()
    covariance = gaussian_covariance(D) + SIGMA**2 * torch.eye(D, dtype=torch.float64)
    random = torch.Generator().manual_seed(5)
    z = torch.randn(400, D, generator=random, dtype=torch.float64)
    x = z @ torch.linalg.cholesky(covariance).T
    batch, gaps = Batch(x.float(), nothing_given(len(x), x)), []
    for _ in range(12):
        mixed = torch.randperm(D, generator=random)
        a = int(torch.randint(1, D, (1,), generator=random))
        b = int(torch.randint(0, D - a + 1, (1,), generator=random))
        asked, known = mixed[:a], mixed[a : a + b]
        parts = [torch.zeros(D, dtype=torch.bool).index_fill_(0, p, True) for p in (asked, known)]
        found = part_log_likelihood(model, batch, Question(*parts))
        truth = log_p(x, covariance, mixed[: a + b]) - log_p(x, covariance, known)
        gaps.append(float((truth - found).mean()) / a)
    assert sum(gaps) / len(gaps) < 0.02
    assert max(gaps) < 0.04
