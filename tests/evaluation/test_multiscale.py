"""The multiscale statistic, against closed forms and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.evaluation.multiscale import (
    FIGURES,
    LEVELS,
    Mahalanobis,
    Moments,
    Values,
    levels_of,
    summaries,
    vectors,
)

Make = Callable[..., Any]

MEAN, SD = (0.5, -1.0, 2.0), (0.25, 1.0, 4.0)


def correlated(n: int, size: int = 6) -> Values:
    """Normal vectors (n, size) of correlated components; fewer are the first of more."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(size, size)) + 2 * np.eye(size)
    values: Values = rng.normal(size=(n, size)) @ mixing + np.arange(size) * 100.0
    return values


def test_joint_models_are_looked_at_evenly_in_log_sigma(random_model: Make) -> None:
    levels = levels_of(random_model(levels=(3.0, 1.0, 0.1)))
    sigmas = np.array([sigma for sigma, _ in levels])
    assert len(levels) == LEVELS
    assert (sigmas[0], sigmas[-1]) == (3.0, 0.1)
    assert np.allclose(np.diff(np.log(sigmas)), math.log(0.1 / 3.0) / (LEVELS - 1))


def test_staged_models_are_looked_at_at_their_own_levels(random_model: Make) -> None:
    model = random_model(levels=(3.0, 1.0, 0.1), annealing="staged")
    assert levels_of(model) == [(3.0, 0), (1.0, 1), (0.1, 2)]


def test_of_many_levels_some_are_taken_the_ends_among_them(random_model: Make) -> None:
    own = tuple(float(s) for s in np.geomspace(3.0, 0.1, 25))
    found = levels_of(random_model(levels=own, annealing="staged", hidden=(4,)))
    assert len(found) == LEVELS
    assert (found[0], found[-1]) == ((own[0], 0), (own[-1], 24))
    assert all(sigma == own[i] for sigma, i in found)


def test_models_of_one_level_have_that_one(random_model: Make) -> None:
    assert levels_of(random_model(levels=(0.1,), annealing="none")) == [(0.1, 0)]


def test_the_figures_of_a_gaussian_are_those_of_its_closed_form(gaussian_model: Make) -> None:
    model = gaussian_model(MEAN, SD, levels=(9.0, 0.25))
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = levels_of(model)
    found = summaries(model, x, levels)
    for k, (sigma, _) in enumerate(levels):
        variance = torch.tensor(SD).double().square() + sigma**2
        s, ds = -(x - torch.tensor(MEAN)) / variance, -1 / variance
        exact = [s.sum(1), s.square().mean(1), (0.5 * s.square() + ds).sum(1)]
        assert torch.allclose(found[:, k], torch.stack(exact, 1), rtol=1e-5, atol=1e-6)
    assert torch.equal(vectors(found), found[:, :, 1:].reshape(20, LEVELS * FIGURES))


def test_each_stage_answers_for_its_level(random_model: Make) -> None:
    model = random_model(levels=(3.0, 1.0, 0.1), annealing="staged")
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = summaries(model, x, levels_of(model))
    for level, sigma in enumerate(model.levels):
        with torch.no_grad():
            c = model.stage(level).context(x)
            s, ds = model.score_and_derivative(x, c, x.new_tensor(sigma), level)
        assert torch.allclose(found[:, level, 0], s.sum(1))
        assert torch.allclose(found[:, level, 2], (0.5 * s.square() + ds).sum(1))


def test_examples_do_not_change_each_others_figures(random_model: Make) -> None:
    model, size = random_model(shape=(1500,), hidden=(4,)), 7  # more scores than a block holds
    x = torch.randn(size, 1500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = levels_of(model)
    together = summaries(model, x, levels)
    alone = torch.cat([summaries(model, row[None], levels) for row in x])
    assert torch.allclose(together, alone, rtol=1e-9)


def test_moments_are_those_of_numpy_however_the_vectors_come() -> None:
    data = correlated(57)
    for size in (1, 10, 57):
        moments = Moments(6)
        for i in range(0, 57, size):
            moments.add(data[i : i + size])
        assert np.allclose(moments.mean, data.mean(0))
        assert np.allclose(moments.covariance, np.cov(data.T))
        assert (moments.covariance == moments.covariance.T).all()


def test_a_single_vector_has_no_covariance() -> None:
    moments = Moments(6)
    moments.add(correlated(1))
    assert (moments.covariance == 0).all()


def test_the_distance_is_that_of_shrunk_correlations() -> None:
    data = correlated(200)
    mean, covariance = data.mean(0), np.cov(data.T)
    found = Mahalanobis(mean, covariance)(data[:9])
    scale = np.diag(np.sqrt(np.diag(covariance)))
    shrunk = 0.97 * covariance + 0.03 * scale @ scale
    exact = [(row - mean) @ np.linalg.solve(shrunk, row - mean) for row in data[:9]]
    assert np.allclose(found, exact)


def test_distances_of_normal_vectors_are_nearly_chi_square() -> None:
    data = correlated(20_000)
    distance = Mahalanobis(data.mean(0), np.cov(data.T))(data)
    assert distance.mean() == pytest.approx(6, rel=0.1)  # the degrees of freedom
    assert distance.var() == pytest.approx(12, rel=0.2)


def test_figures_that_never_change_in_training_data_are_told_from_others() -> None:
    data = np.c_[np.random.default_rng(0).normal(size=50), np.full(50, -7.0)]
    distance = Mahalanobis(data.mean(0), np.cov(data.T))
    assert distance(data).max() < 20
    assert distance(np.array([[0.0, -7.1]]))[0] > 1e6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_vectors_than_figures_will_do(count: int) -> None:
    moments = Moments(6)
    moments.add(correlated(count))
    distance = Mahalanobis(moments.mean, moments.covariance)
    near, far = distance(np.concatenate([correlated(1), np.full((1, 6), 9e9)]))
    assert 0 <= near < far < math.inf


def test_data_like_the_model_are_nearer_than_others(gaussian_model: Make) -> None:
    """Of independent Gaussians: draws of the model itself, wider ones, and its very mean."""
    size = 64
    model = gaussian_model((0.0,) * size, (1.0,) * size, levels=(9.0, 0.1)).float()

    def read(values: torch.Tensor) -> np.ndarray[Any, Any]:
        batches = evaluate(model, Dataset("x", values), metrics=["multiscale"])
        return torch.cat([batch.figures["multiscale"] for batch in batches]).numpy()

    draws = torch.randn(600, size, generator=torch.Generator().manual_seed(1))
    moments = Moments(FIGURES * LEVELS)
    moments.add(read(draws[:500]))
    distance = Mahalanobis(moments.mean, moments.covariance)
    inside = distance(read(draws[500:]))
    assert np.median(distance(read(draws[500:] * 2))) > 10 * np.median(inside)
    assert np.median(distance(read(draws[500:] * 0))) > 10 * np.median(inside)
