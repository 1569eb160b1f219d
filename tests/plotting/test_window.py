"""How far axes reach."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arcsm_cli.plotting.window import outside, window

values = arrays(
    np.float32,
    st.integers(1, 50),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(values)
def test_an_axis_has_a_positive_finite_length(x: np.ndarray) -> None:
    low, high = window(x)
    assert -np.inf < low < high < np.inf


@given(arrays(np.float64, st.integers(1, 500), elements=st.floats(-1, 1)))
def test_few_values_lie_outside(x: np.ndarray) -> None:
    assert outside(x[:, None], [window(x)]) <= 0.002 * len(x) + 2


def test_evenly_spread_values_all_lie_inside() -> None:
    x = np.linspace(-3, 7, 1000)
    assert outside(x[:, None], [window(x)]) == 0


def test_one_far_value_does_not_stretch_the_axis() -> None:
    x = np.append(np.linspace(0, 1, 5000), 1e9)
    assert window(x)[1] < 2


def test_a_row_counts_once_however_many_columns_are_outside() -> None:
    assert outside(np.array([[5.0, 5.0], [0.5, 0.5]]), [(0, 1), (0, 1)]) == 1
