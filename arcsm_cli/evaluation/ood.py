"""Statistics of single examples that tell data like the training data from others.

What a model says of an example x, with s_d its conditional scores at the last noise level:

    score-sum     sum_d s_d: the statistic of the paper, in our reading (section 8 of its method)
    score-norm    mean_d s_d^2
    ratio         sum_d s_d^2 / sum_d -ds_d/dx_d, which is about 1 of data that fit the model
    csm           sum_d (1/2 s_d^2 + ds_d/dx_d), as `eval` has it
    nll           -log p(x), exact, in nats

Each has a direction, fixed here and not chosen by looking at the outcome: which values are taken
for more like the training data. A likelihood is no measure of typicality, though: an image of one
grey has a higher density than any training image (Nalisnick et al. 2019). So each statistic t also
comes two-sided, |t - median of t over training data|, the smaller the more like the training data:
``typicality`` for score-sum, and ``NAME-typicality`` for the others. ``multiscale`` is two-sided
to begin with, and looks at the scores of all noise levels: `arcsm_cli.evaluation.multiscale`.
``nearest`` takes the same figures, and their distance from single training examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli import registry
from arcsm_cli.data.stream import Examples
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.figures import Found
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.evaluation.multiscale import Distance
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel

Direction = Literal["higher", "lower"]
PValues = Callable[[str, NDArray[np.float64]], NDArray[np.float64]]
"""A statistic's name and values to their p-values, see `arcsm_cli.evaluation.conformal`."""

BASES: dict[str, Direction] = {
    name: "higher" if registry.STATISTICS.has(name, "higher") else "lower"
    for name in registry.STATISTICS
    if not registry.STATISTICS.has(name, "levels")
}
"""What is read off a model, and which values are like the training data's."""

MULTISCALE, NEAREST = "multiscale", "nearest"
DISTANCES = (MULTISCALE, NEAREST)
"""The statistics that are distances of vectors from training data's; both of the same vectors."""

TYPICALITIES = {
    ("typicality" if base == "score-sum" else f"{base}-typicality"): base for base in BASES
}
"""The two-sided statistics, and what each is the distance of from its median."""

STATISTICS: dict[str, Direction] = BASES | dict.fromkeys([*TYPICALITIES, *DISTANCES], "lower")
"""Every statistic, and which of its values are like the training data's."""


def base_of(statistic: str) -> str:
    """Return what a statistic is computed from: one of `BASES`, or ``multiscale``.

    Example:
        >>> base_of("csm-typicality"), base_of("typicality"), base_of("multiscale")
        ('csm', 'score-sum', 'multiscale')
    """
    return MULTISCALE if statistic in DISTANCES else TYPICALITIES.get(statistic, statistic)


def statistics_of(model: AutoregressiveModel) -> tuple[str, ...]:
    """Return which of `STATISTICS` a model has; all but the likelihood's are of scores."""
    kind = "scores" if isinstance(model, ARCSM) else "densities"
    return tuple(name for name in STATISTICS if registry.STATISTICS.has(base_of(name), kind))


def default_statistic(model: AutoregressiveModel) -> str:
    """Return the statistic that is taken when none is named; see docs/guide.md for why."""
    return MULTISCALE if isinstance(model, ARCSM) else "nll-typicality"


def choose_statistics(model: AutoregressiveModel, given: list[str] | None, name: str) -> list[str]:
    """Return the statistics that ``--statistic`` names, each of them once, or the default one.

    Arguments:
        given: names, several of them in one text with commas between.
        name: what messages call the model.

    Raises:
        UsageError: one is unknown, or of scores, which the model has not.
    """
    names = [part for text in given or [] for part in text.split(",") if part]
    for part in names:
        if part not in STATISTICS:
            raise UsageError(f"--statistic {part}: expected one of {', '.join(STATISTICS)}")
        if part not in (there := statistics_of(model)):
            raise UsageError(
                f"--statistic {part} is of scores, {name} is trained by likelihood: it has "
                f"{' and '.join(there)}"
            )
    return list(dict.fromkeys(names)) or [default_statistic(model)]


def needs_reference(statistics: list[str]) -> list[str]:
    """Return what must be known of training data for these statistics, in order.

    Of `BASES` the medians, of ``multiscale`` the mean and the covariance, of ``nearest`` the
    vectors too.
    """
    relative = [name for name in statistics if name in TYPICALITIES or name in DISTANCES]
    return list(dict.fromkeys(TYPICALITIES.get(name, name) for name in relative))


def score(
    model: AutoregressiveModel,
    examples: Examples,
    *,
    statistics: list[str],
    medians: Mapping[str, float] | None = None,
    distances: Mapping[str, Distance] | None = None,
    p_values: PValues | None = None,
    perturb: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    ranks: Ranks = SOLO,
) -> Iterator[Found]:
    """Score examples batch by batch.

    Arguments:
        statistics: of `statistics_of` the model.
        medians: over training data, of the bases that `needs_reference` names.
        distances: from training data, of those of `DISTANCES` that it names.
        p_values: of a statistic's values, which are given beside it as `p_name` says.
        examples, perturb, batch_size, seed, ranks: as in `evaluate`, which raises.
    """
    names = list(dict.fromkeys(base_of(name) for name in statistics))
    for batch in evaluate(
        model,
        examples,
        metrics=names,
        perturb=perturb,
        batch_size=batch_size,
        seed=seed,
        ranks=ranks,
    ):
        figures = {
            name: _statistic(name, batch.figures, medians or {}, distances or {})
            for name in statistics
        }
        if p_values is not None:
            p = {p_name(n): p_values(n, values.numpy()) for n, values in figures.items()}
            figures |= {name: torch.from_numpy(values) for name, values in p.items()}
        yield batch._replace(figures=figures)


def p_name(statistic: str) -> str:
    """Return what a statistic's p-values are called beside it."""
    return f"{statistic}-p"


def towards_training_data(statistic: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with the sign that makes higher ones more like the training data."""
    return values if STATISTICS[statistic] == "higher" else -values


def _statistic(
    name: str,
    found: Mapping[str, Tensor],
    medians: Mapping[str, float],
    distances: Mapping[str, Distance],
) -> Tensor:
    base = base_of(name)
    if name in DISTANCES:
        return torch.from_numpy(distances[name](found[base].numpy()))
    return (found[base] - medians[base]).abs() if name in TYPICALITIES else found[base]
