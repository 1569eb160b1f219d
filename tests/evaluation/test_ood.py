"""Statistics of single examples, against closed forms and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.evaluation.multiscale import Mahalanobis, Moments
from arcsm_cli.evaluation.ood import (
    BASES,
    STATISTICS,
    TYPICALITIES,
    base_of,
    choose_statistics,
    default_statistic,
    needs_reference,
    score,
    statistics_of,
    towards_training_data,
)

Make = Callable[..., Any]

SIGMA = 0.25
MEAN, SD = (0.5, -1.0, 2.0), (0.25, 1.0, 4.0)
MEDIANS = {"score-sum": 0.3, "score-norm": 1.7, "ratio": 0.9, "csm": -2.0, "nll": 4.0}
FIGURES = 20  # of multiscale, for joint models
DISTANCE = Mahalanobis(np.ones(FIGURES), np.diag(np.arange(1.0, FIGURES + 1)))
DISTANCES = {"multiscale": DISTANCE, "nearest": DISTANCE}


def vectors(n: int = 30, d: int = 3) -> Dataset:
    return Dataset("table.csv", torch.randn(n, d, generator=torch.Generator().manual_seed(0)))


def scored(model: Any, data: Dataset, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Examples and figures of all batches, of all statistics unless named."""
    defaults = {
        "statistics": list(statistics_of(model)),
        "medians": MEDIANS,
        "distances": DISTANCES,
    }
    options = defaults | options
    batches = list(score(model.float(), data, **options))
    figures = {k: torch.cat([b.figures[k] for b in batches]) for k in batches[0].figures}
    return torch.cat([b.examples for b in batches]), figures


def gaussian(make: Make) -> Any:
    """Independent N(MEAN, SD^2 + SIGMA^2)."""
    return make(MEAN, SD, levels=(9.0, SIGMA))


def standardised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of N(MEAN, SD^2 + SIGMA^2) at x (N, 3), and their derivatives (3,)."""
    variance = torch.tensor(SD).double().square() + SIGMA**2
    return -(x.double() - torch.tensor(MEAN)) / variance, -1 / variance


def test_statistics_of_a_gaussian_are_those_of_its_closed_form(gaussian_model: Make) -> None:
    x, found = scored(gaussian(gaussian_model), vectors())
    s, ds = standardised(x)
    total = torch.tensor([math.hypot(sd, SIGMA) for sd in SD], dtype=torch.float64)
    log_p = torch.distributions.Normal(torch.tensor(MEAN).double(), total).log_prob(x.double())
    exact = {
        "score-sum": s.sum(1),
        "score-norm": s.square().mean(1),
        "ratio": s.square().sum(1) / -ds.sum(),
        "csm": (0.5 * s.square() + ds).sum(1),
        "nll": -log_p.sum(1),
    }
    for name, values in exact.items():
        assert torch.allclose(found[name], values, rtol=1e-3, atol=1e-2), name


def test_the_csm_statistic_is_that_of_automatic_differentiation(random_model: Make) -> None:
    model = random_model()
    x, found = scored(model, vectors(), statistics=["csm", "score-sum", "score-norm"])
    model = model.double()
    rows = model.sort(x.double())
    leaf = rows.clone().requires_grad_()
    s = model.score(leaf, model.contexts(rows), rows.new_tensor(model.sigma_min))
    (ds,) = torch.autograd.grad(s.sum(), leaf)  # s_d depends on leaf_d alone
    assert torch.allclose(found["csm"], (0.5 * s.square() + ds).sum(1), rtol=1e-4, atol=1e-3)
    assert torch.allclose(found["score-sum"], s.sum(1), rtol=1e-4, atol=1e-3)
    assert torch.allclose(found["score-norm"], s.square().mean(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", TYPICALITIES)
def test_a_typicality_is_the_distance_from_the_median(name: str, random_model: Make) -> None:
    base = base_of(name)
    _, found = scored(random_model(), vectors(), statistics=[name, base])
    assert torch.equal(found[name], (found[base] - MEDIANS[base]).abs())


def test_half_of_the_training_data_are_nearer_to_the_median_than_the_mad(
    random_model: Make,
) -> None:
    model, data = random_model(), vectors(101)
    _, found = scored(model, data, statistics=["csm"])
    median = float(found["csm"].median())
    _, near = scored(model, data, statistics=["csm-typicality"], medians={"csm": median})
    mad = float((found["csm"] - median).abs().median())
    assert int((near["csm-typicality"] <= mad).sum()) == 51


def test_multiscale_is_the_distance_of_what_is_read(random_model: Make) -> None:
    model, data = random_model().float(), vectors()
    _, found = scored(model, data, statistics=["multiscale"], seed=2)
    (batch,) = evaluate(model, data, metrics=["multiscale"], seed=2)
    read = batch.figures["multiscale"].numpy()
    assert read.shape == (30, FIGURES)
    assert np.allclose(found["multiscale"].numpy(), DISTANCE(read))
    moments = Moments(FIGURES)
    moments.add(read)
    own = Mahalanobis(moments.mean, moments.covariance)
    _, near = scored(model, data, statistics=["multiscale"], seed=2, distances={"multiscale": own})
    assert near["multiscale"].mean() < FIGURES  # that of its own data: at most the figures' number


def test_the_last_level_of_multiscale_is_that_of_the_other_statistics(random_model: Make) -> None:
    names = ["score-norm", "csm"]
    model = random_model().float()
    (both,) = evaluate(model, vectors(), metrics=[*names, "multiscale"])
    (alone,) = evaluate(model, vectors(), metrics=names)
    last = both.figures["multiscale"][:, -2:]
    for i, name in enumerate(names):
        assert torch.equal(both.figures[name], last[:, i])
        assert torch.equal(both.figures[name], alone.figures[name])


def test_examples_and_figures_are_those_of_eval(random_model: Make) -> None:
    model = random_model()
    x, found = scored(model, vectors(), seed=3)
    theirs = list(evaluate(model, vectors(), metrics=["nll", "csm"], seed=3))
    assert torch.equal(x, torch.cat([batch.examples for batch in theirs]))
    for name in ("nll", "csm"):
        figures = torch.cat([batch.figures[name] for batch in theirs])
        assert torch.equal(found[name], figures)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_statistics_do_not_depend_on_the_batch_size(random_model: Make, size: int) -> None:
    model = random_model()
    (x, found), (same_x, same) = (scored(model, vectors(), batch_size=b) for b in (size, 100))
    assert torch.allclose(x, same_x, rtol=0, atol=1e-6)
    assert all(torch.allclose(found[k], same[k], rtol=1e-4, atol=1e-3) for k in same)


def test_the_noise_is_a_function_of_the_seed(random_model: Make) -> None:
    one, same, other = (scored(random_model(), vectors(), seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other, rtol=0, atol=1e-7).any()


def test_examples_that_carry_their_noise_are_taken_as_they_are(random_model: Make) -> None:
    x, _ = scored(random_model(), vectors(), perturb=False)
    assert torch.allclose(x, vectors().values, rtol=0, atol=1e-6)


def test_models_of_8_bit_values_take_the_data_as_they_are(random_model: Make) -> None:
    model = random_model(
        shape=(1, 2, 2),
        likelihood="discretized-logistic-mixture",
        annealing="none",
        levels=(0.0,),
        context_width=30,
        data_shift=(0.5,),
        data_scale=(0.5,),
    )
    pixels = torch.randint(0, 256, (9, 1, 2, 2), dtype=torch.uint8)
    x, found = scored(model, Dataset("pixels", pixels))
    assert torch.equal((x * 255).round().to(torch.uint8), pixels)
    assert set(found) == {"nll", "nll-typicality"}
    assert (found["nll"] > 0).all()  # of probabilities


def test_a_likelihood_model_has_no_scores(random_model: Make) -> None:
    model = random_model(likelihood="gaussian", context_width=2, annealing="none", levels=(0.1,))
    assert statistics_of(model) == ("nll", "nll-typicality")
    assert default_statistic(model) == "nll-typicality"
    with pytest.raises(UsageError, match="multiscale is of scores"):
        choose_statistics(model, ["multiscale"], "m.st")
    with pytest.raises(UsageError, match=r"csm is of scores, m\.st is trained by likelihood"):
        choose_statistics(model, ["csm"], "m.st")


@pytest.mark.parametrize(
    "config",
    [{}, {"annealing": "staged"}, {"annealing": "none", "levels": (0.1,)}],
    ids=["joint", "staged", "none"],
)
def test_multiscale_is_the_default_of_all_models_of_scores(
    config: dict[str, Any], random_model: Make
) -> None:
    model = random_model(**config)
    assert choose_statistics(model, None, "m") == ["multiscale"]
    (batch,) = evaluate(model.float(), vectors(), metrics=["multiscale"])
    assert batch.figures["multiscale"].isfinite().all()


def test_every_statistic_has_a_direction_and_two_sided_ones_are_small_in_distribution() -> None:
    assert set(STATISTICS) == set(BASES) | set(TYPICALITIES) | {"multiscale", "nearest"}
    assert {STATISTICS[name] for name in (*TYPICALITIES, "multiscale")} == {"lower"}
    values = np.arange(3.0)
    assert (towards_training_data("csm", values) == -values).all()
    assert (towards_training_data("score-sum", values) == values).all()


def test_statistics_are_taken_once_each_in_order_of_naming(random_model: Make) -> None:
    given = ["csm,typicality", "csm", "nll-typicality,multiscale"]
    names = choose_statistics(random_model(), given, "m")
    assert names == ["csm", "typicality", "nll-typicality", "multiscale"]
    assert needs_reference(names) == ["score-sum", "nll", "multiscale"]


def test_an_unknown_statistic_is_refused_with_those_there_are(random_model: Make) -> None:
    with pytest.raises(UsageError, match=r"--statistic energy: .*csm-typicality"):
        choose_statistics(random_model(), ["csm,energy"], "m")


def test_only_what_was_asked_for_is_computed(
    random_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr("arcsm_cli.evaluation.readings.log_likelihood", never)
    assert set(scored(random_model(), vectors(), statistics=["csm"])[1]) == {"csm"}


def test_data_of_another_shape_are_refused(random_model: Make) -> None:
    with pytest.raises(DamagedInputError, match=r"table\.csv.* 4, .* 3"):
        scored(random_model(), vectors(d=4))


@pytest.mark.parametrize("name", [*BASES, "multiscale"])
def test_weights_that_overflow_are_refused(name: str, random_model: Make) -> None:
    model = random_model()
    with torch.no_grad():
        model.networks[0].score.out.weight.fill_(3e38)
    with pytest.raises(DamagedInputError, match=r"table\.csv: .*not numbers"):
        scored(model, vectors(), statistics=[name])
