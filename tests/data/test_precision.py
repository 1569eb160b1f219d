"""Numbers far from zero: double precision where single would lose them."""

import numpy as np
import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.moments import moments
from arcsm_cli.data.precision import merged_columns, narrowed

NOISE = np.random.default_rng(0).normal(size=4000)


@pytest.mark.parametrize(
    ("column", "wide"),
    [
        (NOISE, False),
        (1e6 * NOISE, False),
        (np.append(NOISE, 1e9), False),  # an outlier takes nothing from the others
        (np.full(9, 0.1), False),
        (2.0**20 + np.arange(9.0), False),  # exact, however far
        (1e8 + NOISE, True),
        (1.7e9 + 60 * np.arange(4000.0), True),
        (5 + 1e-3 * NOISE, True),
    ],
    ids=str,
)
def test_columns_stay_in_double_precision_where_single_loses_them(
    column: np.ndarray, wide: bool
) -> None:
    kept = narrowed(torch.from_numpy(np.stack([column, np.zeros(len(column))], 1)))
    assert (kept.dtype == torch.float64) == wide


def test_columns_whose_values_run_together_are_found() -> None:
    table = np.stack([NOISE, 1e8 + NOISE, 300 + NOISE], 1)
    assert merged_columns(torch.from_numpy(table)) == [1]


def test_moments_are_of_all_rows_and_lose_no_digits() -> None:
    x = torch.from_numpy(np.stack([1e8 + NOISE, np.sort(NOISE)], 1))
    found = moments(x.split(7))
    assert found.sd.tolist() == pytest.approx([NOISE.std()] * 2, rel=1e-6)
    assert (found.mean - torch.tensor([1e8, 0.0])).tolist() == pytest.approx(
        [NOISE.mean()] * 2, abs=1e-7
    )
    assert found.low[1] == NOISE.min()


def test_a_constant_column_has_no_spread_at_all() -> None:
    assert Dataset("t", torch.full((5000, 1), 0.1)).moments().sd.tolist() == [0.0]
