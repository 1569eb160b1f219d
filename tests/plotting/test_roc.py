"""Histograms and ROC curves of scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from arcsm_cli.errors import UsageError
from arcsm_cli.io.samples import SampleWriter
from arcsm_cli.plotting.by_kind import figure_of_scores
from arcsm_cli.plotting.figure import new_figure
from arcsm_cli.plotting.roc import MOST_SETS, _edges, draw_scores

FLOATS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=True), min_size=1, max_size=6
).map(lambda values: np.array(values, dtype=np.float64))


def drawn(inside: Any, outside: Any) -> Any:
    """The figure's axes, drawn to the last pixel."""
    with new_figure(6, 3, layout="constrained") as figure:
        draw_scores(figure, ("in", {"csm": inside}), {"out": {"csm": outside}})
        figure.canvas.draw()
        return figure.axes


def sets(shift: float, count: int = 300) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=count), rng.normal(shift, size=count)


def test_the_area_under_the_drawn_curve_is_the_one_it_is_labelled_with() -> None:
    inside, outside = sets(1.0)
    curve = drawn(inside, outside)[1].lines[0]
    x, y = curve.get_data()
    truth = np.repeat([1, 0], 300)
    area = roc_auc_score(truth, -np.concatenate([inside, outside]))  # lower: like training data
    assert np.trapezoid(y, x) == pytest.approx(area)
    assert curve.get_label() == f"out: {area:.3f}"


def test_the_axis_says_which_direction_counts() -> None:
    assert "lower" in drawn(*sets(1.0))[0].get_xlabel()


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_every_example_is_in_a_bin(shift: float) -> None:
    axes = drawn(*sets(shift))[0]
    for patch in axes.patches:
        assert patch.get_data().values.sum() == pytest.approx(1)


def test_sets_far_apart_each_take_several_bins() -> None:
    inside, outside = sets(1e4)
    edges, start = _edges([inside, outside])
    assert start > 0
    assert (np.histogram(inside, edges)[0] > 0).sum() > 5


def test_sets_side_by_side_share_a_linear_axis() -> None:
    edges, start = _edges(list(sets(1.0)))
    assert start == 0
    assert np.allclose(np.diff(edges), edges[1] - edges[0])


@given(FLOATS, FLOATS)
def test_bins_ascend_whatever_the_scores(inside: Any, outside: Any) -> None:
    edges, _ = _edges([inside, outside])
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()


@pytest.mark.slow
@settings(max_examples=4)
@given(FLOATS, FLOATS)
def test_any_scores_are_drawn(inside: Any, outside: Any) -> None:
    drawn(inside, outside)


@pytest.fixture
def scores(tmp_path: Path) -> list[str]:
    """More scored files than a figure shows."""
    paths = [str(tmp_path / f"{i}.h5") for i in range(MOST_SETS + 2)]
    for path in paths:
        with SampleWriter(path, (2,), []) as writer:
            writer.append(np.ones((9, 2)), statistics={"csm": np.arange(9.0), "nll": np.ones(9)})
    return paths


@pytest.mark.slow
def test_a_figure_of_files_has_a_row_for_each_statistic(scores: list[str], tmp_path: Path) -> None:
    from PIL import Image

    figure_of_scores(Path(scores[0]), scores[1:-1])(tmp_path / "figure.png", "png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.height > 800


def test_more_sets_than_colours_are_refused(scores: list[str]) -> None:
    with pytest.raises(UsageError, match="--against"):
        figure_of_scores(Path(scores[0]), scores[1:])


def test_files_of_one_name_in_several_folders_are_told_apart(
    scores: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    twin = tmp_path / "a" / "0.h5"
    twin.write_bytes(Path(scores[0]).read_bytes())
    write = figure_of_scores(Path(scores[0]), [str(twin), scores[1]])
    assert len(write.args[0].keywords["outside"]) == 2  # type: ignore[attr-defined]
