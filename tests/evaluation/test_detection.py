"""AUROC, AUPR and FPR at 95 % TPR, with their bootstrap intervals."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from arcsm_cli.evaluation import detection
from arcsm_cli.evaluation.detection import Separation, separations
from arcsm_cli.evaluation.ood import STATISTICS
from arcsm_cli.evaluation.ood_report import readable, report

Values = NDArray[np.float64]

values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).map(np.array)


def separation(positives: Values, negatives: Values, **options: Any) -> Separation:
    return separations({"t": positives}, {"other": {"t": negatives}}, **options)["t"]["other"]


def normals(n: int, shift: float, seed: int = 0) -> tuple[Values, Values]:
    rng = np.random.default_rng(seed)
    return rng.normal(shift, size=n), rng.normal(size=n)


def expected(positives: Values, negatives: Values) -> tuple[float, float, float]:
    """The three figures by scikit-learn."""
    truth = np.repeat([1, 0], [len(positives), len(negatives)])
    both = np.concatenate([positives, negatives])
    false, true, _ = roc_curve(truth, both, drop_intermediate=False)
    area, average = roc_auc_score(truth, both), average_precision_score(truth, both)
    return area, average, false[true >= 0.95].min()


@given(values, values)
def test_figures_are_those_of_scikit_learn(positives: Values, negatives: Values) -> None:
    found = separation(positives, negatives, draws=0)
    assert [f.value for f in found] == pytest.approx(expected(positives, negatives))


@given(values, values)
def test_auroc_is_the_chance_that_a_positive_is_higher(
    positives: Values, negatives: Values
) -> None:
    difference = positives[:, None] - negatives
    chance = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert separation(positives, negatives, draws=0).auroc.value == pytest.approx(chance)


@given(values, values, st.data())
def test_counted_figures_are_those_of_repeated_examples(
    positives: Values, negatives: Values, data: st.DataObject
) -> None:
    counts = [
        np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any)))
        for n in (len(positives), len(negatives))
    ]
    found = detection._Ranked(positives, negatives).counted(counts[0][None], counts[1][None])
    repeated = [np.repeat(v, c) for v, c in zip((positives, negatives), counts, strict=True)]
    assert found[0] == pytest.approx(expected(*repeated))


def test_infinite_values_are_ranked_as_any_others() -> None:
    found = separation(np.array([np.inf, 1.0]), np.array([-np.inf, 0.0, np.inf]))
    assert found.auroc.value == pytest.approx((2.5 + 2) / 6)


def test_values_the_other_way_round_give_the_rest_of_one() -> None:
    positives, negatives = normals(50, 0.7)
    one, other = separation(positives, negatives), separation(-positives, -negatives)
    assert one.auroc.value == pytest.approx(1 - other.auroc.value)
    assert one.auroc.low == pytest.approx(1 - other.auroc.high)


@pytest.mark.slow
def test_the_interval_covers_the_true_area_as_often_as_it_says() -> None:
    true = NormalDist().cdf(1 / math.sqrt(2))
    hits = 0
    for seed in range(300):
        found = separation(*normals(60, 1.0, seed), draws=200, seed=seed).auroc
        hits += found.low <= true <= found.high
    assert 0.90 <= hits / 300 <= 0.98  # three standard errors about 0.94


def test_the_interval_shrinks_with_the_square_root_of_the_count() -> None:
    small, large = (separation(*normals(n, 0.5)).auroc for n in (100, 1600))
    assert (small.high - small.low) / (large.high - large.low) == pytest.approx(4, rel=0.2)


def test_draws_are_a_function_of_the_seed() -> None:
    sets = normals(40, 0.5)
    one, same, other = (separation(*sets, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_draws_do_not_depend_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = normals(40, 0.5)
    whole = separation(*sets)
    monkeypatch.setattr(detection, "_BLOCK", 7 * 80)
    assert separation(*sets) == whole


def test_a_set_s_interval_does_not_depend_on_the_sets_after_it() -> None:
    positives, negatives = normals(40, 0.5)
    alone = separation(positives, negatives)
    both = separations({"t": positives}, {"other": {"t": negatives}, "more": {"t": negatives[:20]}})
    assert both["t"]["other"] == alone


def test_without_draws_there_is_no_interval() -> None:
    found = separation(*normals(10, 0.5), draws=0)
    assert all(math.isnan(end) for figure in found for end in figure[1:])


def test_the_mean_is_that_over_the_sets_and_surer_than_each() -> None:
    positives, one = normals(100, 0.5)
    two = np.random.default_rng(9).normal(size=100)
    found = separations({"t": positives}, {"one": {"t": one}, "two": {"t": two}})["t"]
    mean = (found["one"].auroc.value + found["two"].auroc.value) / 2
    assert found[None].auroc.value == pytest.approx(mean)
    width = found[None].auroc.high - found[None].auroc.low
    assert width < found["one"].auroc.high - found["one"].auroc.low


def test_a_report_turns_every_statistic_in_its_own_direction() -> None:
    inside, outside = np.arange(5.0), np.arange(5.0) + 10
    found = report({k: inside for k in STATISTICS}, {"far": {k: outside for k in STATISTICS}})
    for name, like in STATISTICS.items():
        assert found["metrics"][f"auroc/{name}/far"] == (0.0 if like == "higher" else 1.0)
        assert found["metrics"][f"auroc_mean/{name}"] == found["metrics"][f"auroc/{name}/far"]


def test_a_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    from arcsm_cli.cli.table import print_result

    rng = np.random.default_rng(0)
    names = ["constant-uniform", "/a/long/path/to/a-file-of-photographs-test.npz", "cifar10:train"]
    inside, *outside = ({k: rng.normal(size=30) for k in STATISTICS} for _ in range(4))
    result = report(inside, dict(zip(names, outside, strict=True)))
    print_result(readable(result, names), json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("(mean)" in line for line in lines) == len(STATISTICS)
