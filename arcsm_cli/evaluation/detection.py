"""How well a statistic tells in-distribution examples from others.

In-distribution examples are the positive class, and higher values are taken for positive: whoever
calls this has given the values that sign beforehand (`arcsm_cli.evaluation.ood`).

- AUROC: the chance that a positive example has the higher value, ties counted half.
- AUPR: average precision, the precision at each positive's value, averaged over the positives.
- FPR at 95 % TPR: the share of negatives above the highest threshold that passes 95 % of positives.

Confidence intervals are percentiles of the bootstrap (Efron 1979), in which both sets are drawn
anew with replacement. A draw is nothing but a count for every example, so that one sort serves all
draws and each figure becomes a cumulative sum over the sorted counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

METRICS = ("auroc", "aupr", "fpr95")
CONFIDENCE = 0.95
BOOTSTRAP = 1000
"""How often sets are drawn anew unless said otherwise."""

_TPR = 0.95
_BLOCK = 1 << 20  # counts in memory at a time

Values = NDArray[np.float64]


class Figure(NamedTuple):
    """A figure and its interval of 95 % confidence, both ends NaN without a bootstrap."""

    value: float
    low: float
    high: float


class Separation(NamedTuple):
    """AUROC, AUPR and FPR at 95 % TPR."""

    auroc: Figure
    aupr: Figure
    fpr95: Figure


def separations(
    positives: Mapping[str, Values],
    negatives: Mapping[str, Mapping[str, Values]],
    *,
    draws: int = BOOTSTRAP,
    seed: int = 0,
) -> dict[str, dict[str | None, Separation]]:
    """Return how well each statistic tells the positives from each set of negatives.

    Arguments:
        positives: (P,) values by statistic, higher for positives, infinite ones allowed.
        negatives: by set and statistic, (N,) values.
        draws: of the bootstrap, 0 for no intervals. In a draw the positives are the same examples
            for all statistics and sets, and a set's negatives the same for all statistics.
        seed: of the draws.

    Returns:
        By statistic and set; under the set None is the mean over the sets.

    Example:
        >>> found = separations({"nll": np.arange(3.0)}, {"other": {"nll": np.array([-1.0, 1.5])}})
        >>> round(found["nll"]["other"].auroc.value, 4)
        0.6667
    """
    pairs = {
        (statistic, name): _Ranked(values, found[statistic])
        for statistic, values in positives.items()
        for name, found in negatives.items()
    }
    exact = {pair: _exact(ranked) for pair, ranked in pairs.items()}
    drawn = _draw(pairs, draws, seed)
    result: dict[str, dict[str | None, Separation]] = {}
    for statistic in positives:
        of = result[statistic] = {}
        for name in negatives:
            of[name] = _figures(exact[statistic, name], drawn[statistic, name])
        every = [(statistic, name) for name in negatives]
        values = np.mean([exact[pair] for pair in every], axis=0)
        of[None] = _figures(values, np.mean([drawn[pair] for pair in every], axis=0))
    return result


class _Ranked:
    """Positive and negative values as ranks, sorted once for all draws.

    Attributes:
        positives, negatives: ranks (P,) and (N,), integers from 0, equal for equal values.
        order: (P + N,) indices of all examples, positives first, from the highest to the lowest.
        ends: where in that order each run of equal values ends, its last position.
    """

    def __init__(self, positives: Values, negatives: Values) -> None:
        # Ranks, not values: libraries refuse infinite ones.
        _, ranks = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
        self.positives, self.negatives = ranks[: len(positives)], ranks[len(positives) :]
        self.order = np.argsort(-ranks, kind="stable")
        falling = ranks[self.order]
        self.ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)

    def counted(self, positives: NDArray[Any], negatives: NDArray[Any]) -> Values:
        """Return the `METRICS` (B, 3) where example i is there as often as the counts say.

        Arguments:
            positives, negatives: (B, P) and (B, N), none of the rows zero throughout.
        """
        counts = np.concatenate([positives, np.zeros_like(negatives)], 1)[:, self.order]
        hits = counts.cumsum(1)[:, self.ends]  # true positives above each threshold
        counts = np.concatenate([np.zeros_like(positives), negatives], 1)[:, self.order]
        alarms = counts.cumsum(1)[:, self.ends]  # false ones
        most, total = hits[:, -1:], alarms[:, -1:]
        new_hits = np.diff(hits, axis=1, prepend=0)
        new_alarms = np.diff(alarms, axis=1, prepend=0)
        # Trapezoids: negatives tied with positives count half.
        area = (new_alarms * (hits - new_hits / 2)).sum(1) / (most * total)[:, 0]
        precision = hits / np.maximum(hits + alarms, 1)
        average = (new_hits * precision).sum(1) / most[:, 0]
        passing = (hits >= _TPR * most).argmax(1)
        false = alarms[np.arange(len(alarms)), passing] / total[:, 0]
        return np.stack([area, average, false], 1)


def _exact(ranked: _Ranked) -> Values:
    """The `METRICS` (3,) of the sets as they are."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    truth = np.repeat([1, 0], [len(ranked.positives), len(ranked.negatives)])
    ranks = np.concatenate([ranked.positives, ranked.negatives])
    false, true, _ = roc_curve(truth, ranks, drop_intermediate=False)
    at = false[np.searchsorted(true, _TPR)]
    figures = (roc_auc_score(truth, ranks), average_precision_score(truth, ranks), at)
    return np.array(figures, dtype=np.float64)


def _draw(
    pairs: Mapping[tuple[str, str], _Ranked], draws: int, seed: int
) -> dict[tuple[str, str], Values]:
    """The `METRICS` (draws, 3) of each pair in every draw."""
    drawn: dict[tuple[str, str], list[Values]] = {pair: [np.empty((0, 3))] for pair in pairs}
    names = list(dict.fromkeys(name for _, name in pairs))
    sizes = {name: len(ranked.negatives) for (_, name), ranked in pairs.items()}
    count = len(next(iter(pairs.values())).positives)
    # A stream for each set, so that its draws do not depend on the others.
    streams = np.random.SeedSequence(seed).spawn(1 + len(names))
    first, *others = (np.random.Generator(np.random.Philox(stream)) for stream in streams)
    block = max(1, _BLOCK // (count + max(sizes.values())))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        positives = _counts(first, size, count)
        for name, stream in zip(names, others, strict=True):
            negatives = _counts(stream, size, sizes[name])
            for pair, ranked in pairs.items():
                if pair[1] == name:
                    drawn[pair].append(ranked.counted(positives, negatives))
    return {pair: np.concatenate(parts) for pair, parts in drawn.items()}


def _counts(stream: np.random.Generator, draws: int, size: int) -> NDArray[np.int64]:
    """How often each of ``size`` examples is drawn in as many draws: (draws, size)."""
    chosen = stream.integers(0, size, (draws, size))
    chosen += np.arange(draws)[:, None] * size
    return np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size)


def _figures(values: Values, drawn: Values) -> Separation:
    tail = (1 - CONFIDENCE) / 2
    ends = np.full((2, 3), np.nan)
    if len(drawn):
        ends = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Separation(
        *(Figure(float(v), float(a), float(b)) for v, a, b in zip(values, *ends, strict=True))
    )
