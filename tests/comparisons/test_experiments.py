"""Each experiment in its smallest version, and what is made of its records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.comparisons import convergence, cost, likelihood, orders, two_d, variance
from arcsm_cli.comparisons.experiments import EXPERIMENTS, experiment
from arcsm_cli.comparisons.fit import fit
from arcsm_cli.comparisons.objectives import Objective
from arcsm_cli.comparisons.tables import columns, distinct, where
from arcsm_cli.data.names import TWO_DIMENSIONAL
from arcsm_cli.errors import UsageError
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import parameter_count

SMALL: dict[str, Any] = {
    "cost": replace(cost.QUICK, seeds=(0,), dims=(2, 3), steps=1, methods=("csm", "sm")),
    "variance": replace(variance.QUICK, seeds=(0, 1), dims=(3,), steps=4, batch_size=8),
    "convergence": replace(convergence.QUICK, seeds=(0,), dims=(3,), steps=4, batch_size=8),
    "likelihood": replace(likelihood.QUICK, seeds=(0,), steps=3, batch_size=8),
    "two-d": replace(two_d.QUICK, data="moons", steps=3, samples=50),
    "orders": replace(orders.QUICK, steps=2, orders=("raster", "mutual information")),
}


def each(jobs: Sequence[Any]) -> Iterator[Any]:
    yield from jobs


Tables = dict[str, Any]
# It is timed in processes of its own, which start for seconds.
COST = pytest.param("cost", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def results() -> Callable[[str], Tables]:
    """The tables of an experiment, as columns; run once."""

    @functools.cache
    def run(name: str) -> Tables:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orders, "_HELD_OUT", 20)
            return {t: columns(r) for t, r in experiment(name).run(SMALL[name], each).items()}

    return run


@pytest.mark.parametrize("name", [COST if name == "cost" else name for name in EXPERIMENTS])
def test_an_experiment_has_records_figures_and_tables(
    results: Callable[[str], Tables], name: str
) -> None:
    module, tables = experiment(name), results(name)
    assert all(len(next(iter(table.values()))) for table in tables.values())
    figures = module.summary(tables)
    assert figures
    assert all(isinstance(value, float) for value in figures.values())
    for rows in module.shown(tables).values():
        columns(rows)  # of equal keys


@pytest.mark.slow
def test_csm_is_deterministic_given_the_batch_and_the_others_are_not(
    results: Callable[[str], Tables],
) -> None:
    table = results("variance")["draws"]
    for method in distinct(table["method"]):
        for figure in ("loss", "gradient"):
            found = variance.variances(table, method, "draws", figure)[3]
            assert all(v == 0 if method == "csm" else v > 0 for v in found)


@pytest.mark.slow
def test_cost_has_every_timed_iteration_and_comparable_weights(
    results: Callable[[str], Tables],
) -> None:
    table = results("cost")["iterations"]
    assert len(table["seconds"]) == 2 * 2
    assert (table["seconds"] > 0).all()
    for d in (2, 3):
        a, b = (where(table, method=m, dims=d)["weights"][0] for m in ("csm", "sm"))
        assert abs(a / b - 1) < 0.05


@pytest.mark.parametrize(
    ("limit", "value"), [("memory", 1e-3), pytest.param("time", 1e-6, marks=pytest.mark.slow)]
)
def test_a_method_beyond_a_limit_is_stopped_and_not_tried_further(limit: str, value: float) -> None:
    settings = replace(SMALL["cost"], methods=("sm",), **{f"{limit}_limit": value})
    settings = replace(settings, batch_size=2000, dims=(40, 50), steps=50)
    tables = {"iterations": columns(cost.run(settings, each)["iterations"])}
    assert tables["iterations"]["stopped"].tolist() == [limit]
    assert cost.shown(tables)["stopped"] == [{"method": "sm", "dims": 40.0, "limit": limit}]


def test_fits_of_known_times() -> None:
    rows = [
        {"method": method, "dims": d, "seed": 0, "stopped": "", "seconds": seconds, "memory": 1.0}
        for d in (10, 50, 100, 400)
        for method, seconds in (
            ("csm", 0.01 * d),
            ("csm network", 0.005 * d),
            ("sm", 0.1 * d**2),
            ("energy network", 0.001 * d),
        )
    ]
    found = cost.summary({"iterations": columns(rows)})  # type: ignore[arg-type]
    assert found["exponent/sm"] == pytest.approx(2)
    assert found["exponent/sm/network"] == pytest.approx(1)
    assert found["growth/csm/network"] == pytest.approx(1)
    assert found["speedup/400"] == pytest.approx(0.1 * 400**2 / 4)


def test_fit_measures_before_and_after_and_lowers_the_loss() -> None:
    weight = torch.nn.Linear(1, 1)

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = weight

        def with_derivative(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.inner(x), self.inner.weight.expand_as(x)

    def batch_of(rows: torch.Generator) -> torch.Tensor:
        return 2 * torch.randn(256, 1, generator=rows)

    seen = list(fit(Field(), Objective("csm"), batch_of, steps=300, lr=0.05, seed=0, points=4))
    assert (seen[0], seen[-1], len(seen)) == (0, 300, 4)
    assert float(weight.weight.detach()) == pytest.approx(-0.25, abs=0.05)  # the score of N(0, 4)


def test_a_training_that_diverges_ends() -> None:
    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.ones(1))

        def with_derivative(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a * x * float("inf"), self.a.expand_as(x)

    batch = torch.ones(2, 1)
    seen = list(fit(Field(), Objective("csm"), lambda _: batch, steps=9, lr=1, seed=0, points=3))
    assert seen == [0]


def test_the_ar_csm_has_fewer_weights_than_the_baseline() -> None:
    from arcsm_cli.data.twod import load_points
    from arcsm_cli.training.configure import model_config

    ours, theirs = (
        parameter_count(model_config(load_points("moons", "valid"), two_d.choices_of(m)))
        for m in ("csm", "mle 10")
    )
    assert ours < theirs


def test_two_d_names_a_set_that_is_none() -> None:
    with pytest.raises(UsageError, match="--data digits"):
        two_d.run(replace(SMALL["two-d"], data="digits"), each)


def test_two_d_counts_the_sets_where_everything_is_better() -> None:
    rows = [
        {"set": s, "method": m, "seed": 0, "weights": 1, "entropy": 0, "energy": e, "nll": n}
        | {"sliced wasserstein": e}
        for s, (ours, theirs) in {"moons": ((1, 1), (2, 2)), "rings": ((1, 3), (2, 2))}.items()
        for m, (n, e) in (("csm", ours), ("mle 10", theirs))
    ]
    found = two_d.summary({"figures": columns(rows)})  # type: ignore[arg-type]
    place = "better/csm/mle 10"
    assert (found[f"{place}/nll"], found[f"{place}/energy"], found[place]) == (2, 1, 1)


def test_two_d_is_of_all_sets_by_default() -> None:
    assert set(two_d.Settings().data.split(",")) == set(TWO_DIMENSIONAL)


def test_orders_are_compared_example_by_example(results: Callable[[str], Tables]) -> None:
    raster, informed = orders.shown(results("orders"))["orders"]
    assert (raster["beyond"], raster["error"]) == (0, 0)
    assert informed["beyond"] == pytest.approx(float(informed["nll"]) - float(raster["nll"]))
    assert 0 < float(informed["error"]) < float(informed["se"])


def test_convergence_trains_csms_network_by_other_objectives_too(
    results: Callable[[str], Tables],
) -> None:
    table = results("convergence")["curves"]
    weights = {m: where(table, method=m)["weights"][0] for m in distinct(table["method"])}
    assert weights["ssm-vr, AR-CSM"] == weights["ssm 1, AR-CSM"] == weights["csm"]
    started = {m: where(table, method=m, step=0)["error"][0] for m in weights}
    assert started["ssm-vr, AR-CSM"] == started["csm"] != started["ssm-vr"]


def test_mutual_information_is_that_of_a_gaussian() -> None:
    x = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    found = orders.mutual_information(x)
    assert found[0, 0] == 0
    assert float(found[0, 1]) == float(found[1, 0])
    assert 0.25 < float(found[0, 1]) < 0.5 * np.log(1 / 0.36) + 0.01  # bins lose a little


def test_the_informative_order_follows_a_chain() -> None:
    noise = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0)).double()
    chain = [noise[:, 0]]
    for column in noise.T[1:]:
        chain.append(0.9 * chain[-1] + 0.436 * column)
    shuffled = [3, 0, 5, 1, 4, 2]
    order = orders.informative_order(torch.stack([chain[i] for i in shuffled], 1))
    visited = [shuffled[i] for i in order.tolist()]
    assert sorted(visited) == list(range(6))
    for i, variable in enumerate(visited[1:], 1):  # a neighbour is known already
        assert min(abs(variable - v) for v in visited[:i]) == 1


def test_a_permuted_configuration_keeps_what_belongs_to_a_variable() -> None:
    config = ModelConfig(
        shape=(3,), levels=(1.0, 0.1), hidden=(4,), mean=(1.0, 2.0, 3.0), sd=(4.0, 5.0, 6.0)
    )
    found = orders.permuted(config, torch.tensor([2, 0, 1]))
    assert (found.mean, found.sd) == ((3.0, 1.0, 2.0), (6.0, 4.0, 5.0))
