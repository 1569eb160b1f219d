"""Conformal p-values: how rare an example's statistic is among examples like the training data.

With n held-out examples that the statistic was not made from, and an example exchangeable with
them, p = (1 + how many of them are no more like the training data) / (n + 1) is at most alpha with
a chance of at most alpha, whatever the statistic (Vovk, Gammerman and Shafer 2005; Bates et al.
2023).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.ood import STATISTICS, p_name, towards_training_data

Values = NDArray[np.float64]


class Calibration:
    """The statistics of held-out examples, and the p-values that follow.

    Arguments:
        values: (n,) by statistic, of `arcsm_cli.evaluation.ood.STATISTICS`.

    Example:
        >>> held_out = Calibration({"nll": np.arange(9.0)})
        >>> held_out.p_values("nll", np.array([-1.0, 7.5, 100.0]))
        array([1. , 0.2, 0.1])
    """

    def __init__(self, values: Mapping[str, Values]) -> None:
        self._sorted = {name: np.sort(towards_training_data(name, v)) for name, v in values.items()}

    def p_values(self, name: str, values: Values) -> Values:
        """Return the p-values (B,) of a statistic's values (B,)."""
        known = self._sorted[name]
        below = np.searchsorted(known, towards_training_data(name, values), side="right")
        found: Values = (1 + below) / (len(known) + 1)
        return found


def check_alpha(alpha: float, count: int) -> None:
    """Refuse a level that no p-value can reach.

    Raises:
        UsageError: saying how many held-out examples it takes.
    """
    if alpha * (count + 1) < 1:
        least = int(np.ceil(1 / alpha - 1e-9)) - 1
        raise UsageError(
            f"--alpha {alpha:g}: of {count} examples to compare with the least p-value is "
            f"{1 / (count + 1):.2g}; --calibration takes {least} for this level"
        )


def split(found: Mapping[str, Values]) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return statistics, and p-values by the statistic that they are of."""
    values = {name: v for name, v in found.items() if name in STATISTICS}
    return values, {n: found[p_name(n)] for n in values if p_name(n) in found}


def flagged(p_values: Mapping[str, Values], alpha: float) -> dict[str, float]:
    """Return the share of examples with a p-value of alpha or less, by statistic."""
    return {name: float((p <= alpha).mean()) for name, p in p_values.items()}
