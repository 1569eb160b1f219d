"""Figures of comparisons: drawn from their tables, to the last pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arcsm_cli.comparisons.tables import columns
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.plotting.comparisons import draw_comparison, height_of
from arcsm_cli.plotting.figure import new_figure


def cost() -> dict[str, Any]:
    rows = [
        {"method": m, "dims": d, "seed": s, "stopped": "", "seconds": d * t, "memory": d}
        for m, t in (("csm", 0.1), ("csm network", 0.05), ("sm", 0.2))
        for d in (10, 100)
        for s in (0, 1)
    ]
    rows[-1] |= {"stopped": "time", "seconds": float("nan"), "memory": float("nan")}
    return {"iterations": columns(rows)}  # type: ignore[arg-type]


def variance() -> dict[str, Any]:
    rows = [
        {
            "method": m,
            "dims": d,
            "seed": s,
            "over": over,
            "draw": i,
            "loss": t * i,
            "gradient": t * i,
        }
        for m, t in (("csm", 0.0), ("dsm 0.1", 1.0))
        for d in (10, 20)
        for s in (0, 1)
        for over in ("draws", "batches")
        for i in range(3)
    ]
    return {"draws": columns(rows)}  # type: ignore[arg-type]


def curves(key: str) -> dict[str, Any]:
    rows = [
        {"method": m, "dims": 10, "seed": s, "step": t, key: v}
        for m, v in (("mle", 1), ("csm", 2), ("csm, AR-CSM", 2), ("dsm 0.01", float("inf")))
        for s in (0, 1)
        for t in (0, 5)
    ]
    return {"curves": columns(rows)}  # type: ignore[arg-type]


def orders() -> dict[str, Any]:
    errors = {"se": 0.1, "se beyond": 0.05}
    rows = [
        {"order": o, "seed": s, "dims": 3, "nll": s + b, "beyond": b, **errors}
        for o, b in (("a", 0.0), ("b", 0.3))
        for s in (0, 1)
    ]
    return {"figures": columns(rows)}  # type: ignore[arg-type]


def two_d() -> dict[str, Any]:
    place = [{"set": "moons", "method": m} for m in ("csm", "mle")]
    figures = {"seed": 0, "weights": 9, "nll": 1.0, "energy": 0.1, "sliced wasserstein": 0.1}
    points = [(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    return {
        "figures": columns([p | figures | {"entropy": float("nan")} for p in place]),
        "samples": columns([p | {"x": x, "y": y} for p in place for x, y in points]),
        "densities": columns([p | {"x": x, "y": y, "log p": x} for p in place for x, y in points]),
    }


TABLES: dict[str, Any] = {
    "cost": cost(),
    "variance": variance(),
    "convergence": curves("error"),
    "likelihood": curves("nll"),
    "two-d": two_d(),
    "orders": orders(),
}


@pytest.mark.parametrize("experiment", TABLES)
def test_every_experiment_is_drawn(experiment: str) -> None:
    with new_figure(6, height_of(experiment, TABLES[experiment]), layout="constrained") as figure:
        draw_comparison(figure, experiment, TABLES[experiment])
        figure.canvas.draw()
        assert figure.axes


@pytest.mark.parametrize("experiment", TABLES)
def test_tables_of_another_experiment_are_refused(experiment: str) -> None:
    wrong = {"other": {"a": np.zeros(1)}}
    with new_figure(6, 4) as figure, pytest.raises(DamagedInputError, match=experiment):
        draw_comparison(figure, experiment, wrong)


def test_an_unknown_experiment_is_refused() -> None:
    with new_figure(6, 4) as figure, pytest.raises(DamagedInputError, match="'magic'"):
        draw_comparison(figure, "magic", {})


def test_a_limit_is_named() -> None:
    with new_figure(6, 4, layout="constrained") as figure:
        draw_comparison(figure, "cost", TABLES["cost"])
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("sm: time limit" in text for text in texts)
