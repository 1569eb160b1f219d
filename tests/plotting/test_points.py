"""Histograms, scatter plots and scatter matrices; and densities drawn with them or alone."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.plotting.density import ModelDensity, conditionals, density_on
from arcsm_cli.plotting.figure import new_figure
from arcsm_cli.plotting.heatmap import draw_density
from arcsm_cli.plotting.points import MATRIX, draw_points, windows_of

MakeModel = Callable[..., ARCSM]
SCALES: list[Literal["density", "nats"]] = ["density", "nats"]


def drawn(points: np.ndarray, **options: Any) -> list[Any]:
    """The axes that are seen, drawn to the last pixel."""
    settings = {"total": len(points), "dimensions": points.shape[1]} | options
    with new_figure(6, 5, layout="constrained") as figure:
        draw_points(figure, points[:, :MATRIX], **settings)
        figure.canvas.draw()
        return [axes for axes in figure.axes if axes.get_visible()]


def normal(count: int, dimensions: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32)


@pytest.mark.parametrize(("dimensions", "panels"), [(1, 1), (2, 1), (3, 6), (9, 15)])
def test_the_number_of_variables_decides_the_panels(dimensions: int, panels: int) -> None:
    assert len(drawn(normal(50, dimensions))) == panels


@pytest.mark.slow
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=3),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
@settings(max_examples=4)
def test_any_finite_points_are_drawn_without_a_warning(points: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(points)


def test_a_histogram_integrates_to_one() -> None:
    (axes,) = drawn(normal(1000, 1))
    values, edges, _ = axes.patches[0].get_data()
    assert np.sum(values * np.diff(edges)) == pytest.approx(1)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_points_outside_the_axes_are_counted_in_the_figure(dimensions: int) -> None:
    points = normal(5000, dimensions)
    points[:2] = 1e6
    with new_figure(6, 5) as figure:
        draw_points(figure, points, total=9000, dimensions=dimensions)
        written = " ".join(
            [text.get_text() for text in figure.texts]
            + [axes.get_title(loc="left") for axes in figure.axes]
        )
    assert "the first 5,000 of 9,000 samples, 2 of them outside" in " ".join(written.split())


def test_similar_variables_share_one_scale() -> None:
    assert drawn(normal(50, 2))[0].get_aspect() == 1


def test_very_different_variables_have_their_own_scales() -> None:
    assert drawn(normal(50, 2) * np.array([1, 1000], np.float32))[0].get_aspect() == "auto"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_density_is_drawn_with_the_points(
    dimensions: int, scale: Literal["density", "nats"], model: MakeModel
) -> None:
    points = normal(100, dimensions)
    density = density_on(model(shape=(dimensions,)), windows_of(points))
    axes = drawn(points, density=density, scale=scale)[0]
    assert len(axes.images) + len(axes.lines) == 1


@pytest.mark.parametrize("scale", SCALES)
def test_a_density_that_is_zero_everywhere_is_drawn(scale: Literal["density", "nats"]) -> None:
    nothing = ModelDensity([(0, 1), (0, 1)], np.full((9, 9), -np.inf), "nothing")
    drawn(np.full((1, 2), 0.5, np.float32), density=nothing, scale=scale)


@pytest.mark.parametrize("scale", SCALES)
def test_slices_are_lines_on_the_map_and_curves_below(
    scale: Literal["density", "nats"], model: MakeModel
) -> None:
    made, windows = model(), [(-1.0, 1.0), (-1.0, 1.0)]
    with new_figure(6, 7, layout="constrained") as figure:
        slices = conditionals(made, [-0.5, 0.0, 0.5], windows)
        draw_density(figure, density_on(made, windows), scale, slices)
        figure.canvas.draw()
        assert [len(axes.lines) for axes in figure.axes] == [3, 3]


def test_a_logarithmic_scale_ends_a_fixed_depth_below_the_peak() -> None:
    x = np.linspace(-100, 100, 512)
    steep = ModelDensity([(-100, 100)], -(x**2), "steep")
    with new_figure(6, 4) as figure:
        draw_density(figure, steep, "nats")
        low, high = figure.axes[0].get_ylim()
    assert high - low < 20
