"""p-values among held-out examples."""

from __future__ import annotations

import numpy as np
import pytest

from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.conformal import Calibration, check_alpha, flagged


@pytest.mark.parametrize("name", ["score-sum", "multiscale"])
def test_no_more_than_alpha_of_examples_like_the_held_out_ones_are_flagged(name: str) -> None:
    random, shares = np.random.default_rng(0), []
    for _ in range(300):  # ties too: values are rounded
        held_out, values = random.normal(size=(2, 99)).round(1)
        p = Calibration({name: held_out}).p_values(name, values)
        shares.append(flagged({name: p}, 0.1)[name])
    error = np.std(shares) / np.sqrt(len(shares))
    assert 0.06 < np.mean(shares) < 0.1 + 3 * error


@pytest.mark.parametrize(("name", "far"), [("score-sum", -50.0), ("multiscale", 50.0)])
def test_what_is_unlike_all_held_out_examples_has_the_least_p_value(name: str, far: float) -> None:
    held_out = Calibration({name: np.arange(-9.0, 10.0)})
    assert held_out.p_values(name, np.array([far, -far])) == pytest.approx([0.05, 1])


def test_a_level_that_no_p_value_reaches_is_refused() -> None:
    check_alpha(0.01, 99)
    with pytest.raises(UsageError, match="takes 99 "):
        check_alpha(0.01, 98)
