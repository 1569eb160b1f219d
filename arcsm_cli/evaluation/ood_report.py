"""What is printed of out-of-distribution scores: figures by name for programs, rows for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation import detection
from arcsm_cli.evaluation.detection import BOOTSTRAP, Separation, separations
from arcsm_cli.evaluation.ood import STATISTICS, TYPICALITIES, towards_training_data
from arcsm_cli.io.reference_file import Reference
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import label

Values = NDArray[np.float64]

_GROUP = "statistics/"
_WIDEST = 18  # characters of a set's name in a table of 80
_BLOCK = 1 << 16


def report(
    inside: Mapping[str, Values],
    outside: Mapping[str, Mapping[str, Values]],
    *,
    typical: Reference | None = None,
    draws: int = BOOTSTRAP,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the parts of a result on these statistics: ``statistics`` and ``metrics``.

    Arguments:
        inside: values of the in-distribution examples by statistic, of `STATISTICS`.
        outside: the same of each set that they are told from; none is allowed.
        typical: what typicalities are distances from.
        draws, seed: of the bootstrap.

    Returns:
        ``statistics``: one mapping each, with the direction that counts and, of typicalities,
        the ``center`` they are distances from, with its median absolute deviation. ``metrics``:
        ``auroc/STATISTIC/SET`` and so on, see `detection`, each with ``_low`` and ``_high`` ends of
        its interval; ``auroc_mean/STATISTIC`` over the sets; ``mean/STATISTIC`` and
        ``median/STATISTIC`` of the in-distribution values.
    """
    metrics: dict[str, float] = {}
    for name, values in inside.items():
        with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
            metrics[f"mean/{name}"] = float(values.mean())
        metrics[f"median/{name}"] = float(np.median(values))
    if outside:
        towards = {name: towards_training_data(name, v) for name, v in inside.items()}
        others = {
            which: {name: towards_training_data(name, found[name]) for name in inside}
            for which, found in outside.items()
        }
        for name, found in separations(towards, others, draws=draws, seed=seed).items():
            for which, separation in found.items():
                metrics |= _named(separation, name, which)
    return {
        "statistics": [_about(name, typical) for name in inside],
        "metrics": metrics,
    }


def readable(result: Mapping[str, Any], against: list[str]) -> dict[str, Any]:
    """Return a result for a table: the metrics as rows, one for each statistic and set.

    Arguments:
        result: with the parts that `report` makes.
        against: the names of the sets, as in the metrics.
    """
    metrics = result["metrics"]
    rest = {key: value for key, value in result.items() if key not in ("statistics", "metrics")}
    about = []
    for row in result["statistics"]:
        name = row["statistic"]
        of = ("median", "mean", "flagged")
        found = {key: metrics[f"{key}/{name}"] for key in of if f"{key}/{name}" in metrics}
        # Columns are in the order in which rows first name them.
        about.append({"statistic": name, "inside": row["inside"]} | found | row)
    rest["statistics"] = about
    names = [row["statistic"] for row in result["statistics"]]
    rows = [_row(metrics, name, which) for name in names for which in against]
    if len(against) > 1:
        rows += [_row(metrics, name, None) for name in names]
    return rest | ({"separation": rows} if rows else {})


def read_statistics(file: SampleFile, name: str) -> dict[str, Values]:
    """Read the statistics of a scored sample file that this program knows, (N,) each.

    Arguments:
        name: what messages call the file.

    Raises:
        DamagedInputError: there are none, or a block is damaged.
    """
    known = {
        found.removeprefix(_GROUP): found
        for found in file.names
        if found.removeprefix(_GROUP) in STATISTICS and file.read(0, 0, found).ndim == 1
    }
    if not known or len(file) == 0:
        raise DamagedInputError(
            f"{name}: holds no scores; 'arcsm ood-score MODEL DATA -o SCORES.h5' writes some"
        )
    return {
        statistic: np.concatenate(
            [file.read(i, i + _BLOCK, found) for i in range(0, len(file), _BLOCK)]
        ).astype(np.float64)
        for statistic, found in known.items()
    }


def shared_statistics(sources: list[str]) -> list[dict[str, Values]]:
    """Return the statistics that scored sample files have in common, of each file.

    Arguments:
        sources: paths, or ``-``.

    Raises:
        MissingInputError: a file does not exist or cannot be read.
        DamagedInputError: one is damaged or holds none, or they have none in common.
    """
    found = []
    for source in sources:
        with SampleFile(source) as file:
            found.append(read_statistics(file, label(source)))
    both = [name for name in STATISTICS if all(name in values for values in found)]
    if not both:
        held = "; ".join(
            f"{label(source)} {', '.join(values)}"
            for source, values in zip(sources, found, strict=True)
        )
        raise DamagedInputError(f"the files have no statistic in common: {held}")
    return [{name: values[name] for name in both} for values in found]


def short(name: str) -> str:
    """Return a set's name as a column takes it: of a path the last part, and not too long.

    Example:
        >>> short("/data/fashion-mnist-test.npz")
        'fashion-mnist...'
    """
    text = label(name) if name == "-" else os.path.basename(name.rstrip("/")) or name
    if len(text) <= _WIDEST:
        return text
    stem = os.path.splitext(text)[0]
    return stem if len(stem) <= _WIDEST else f"{text[: _WIDEST - 5]}..."


def _about(name: str, typical: Reference | None) -> dict[str, Any]:
    about: dict[str, Any] = {"statistic": name, "inside": STATISTICS[name]}
    if typical is not None and name in TYPICALITIES:
        of = typical.statistics[TYPICALITIES[name]]
        about |= {"center": of.median, "mad": of.mad}
    return about


def _named(separation: Separation, name: str, which: str | None) -> dict[str, float]:
    found = {}
    for metric, figure in zip(detection.METRICS, separation, strict=True):
        for end, value in zip(("", "_low", "_high"), figure, strict=True):
            key = f"{metric}_mean{end}/{name}" if which is None else f"{metric}{end}/{name}/{which}"
            found[key] = value
    return found


def _row(metrics: Mapping[str, float], name: str, which: str | None) -> dict[str, Any]:
    def of(metric: str, end: str = "") -> float:
        key = f"{metric}_mean{end}/{name}" if which is None else f"{metric}{end}/{name}/{which}"
        return float(f"{metrics[key]:.3f}")

    interval = {"low": of("auroc", "_low"), "high": of("auroc", "_high")}
    flagged = metrics.get(f"flagged/{name}/{which}")
    return {
        "statistic": name,
        "against": "(mean)" if which is None else short(which),
        "auroc": of("auroc"),
        **interval,
        "aupr": of("aupr"),
        "fpr95": of("fpr95"),
    } | ({} if flagged is None else {"flagged": float(f"{flagged:.3f}")})
