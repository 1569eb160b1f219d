"""Typical values of a model's statistics over training data: found, computed and kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.source import path_of
from arcsm_cli.data.stream import Examples, open_stream
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import ArcsmError, OutputError, UsageError
from arcsm_cli.evaluation.figures import Found, check_shape, collect
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.evaluation.multiscale import (
    FIGURES,
    Distance,
    Mahalanobis,
    Moments,
    Nearest,
    levels_of,
)
from arcsm_cli.evaluation.ood import BASES, MULTISCALE, NEAREST, base_of, statistics_of
from arcsm_cli.evaluation.overlap import Trained
from arcsm_cli.io.reference_file import (
    MAX_VECTORS,
    Reference,
    Spread,
    Typical,
    load_reference_file,
    reference_path,
    save_reference,
)
from arcsm_cli.io.streams import label
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel

logger = logging.getLogger(__name__)

EXAMPLES = 1000
"""Training examples used unless said otherwise: the median's error is then 4 % of a deviation."""

_SEED = 0  # of the noise: a reference belongs to the model, not to a run

Track = Callable[[int], AbstractContextManager[Any]]
"""Given a number of examples, shows how many are done: `update` of what it yields tells it."""


@dataclass(frozen=True)
class Request:
    """Which reference is wanted.

    Attributes:
        model_file: the checkpoint's path; ``-`` and pipes have no place beside them to keep one.
        checkpoint: SHA-256 of the checkpoint.
        trained: what the checkpoint tells of the data that it was trained on.
        data: ``--reference``, or None for the data that the model was trained on.
        limit: ``--reference-limit``, or None.
        options: of data, but for the limit.
        batch_size: examples at a time.
        ranks: share the work; see `find_reference`.
    """

    model_file: str
    checkpoint: str
    trained: Trained
    data: str | None
    limit: int | None
    options: DataOptions
    batch_size: int
    ranks: Ranks = SOLO


def find_reference(
    model: AutoregressiveModel, wanted: Request, names: list[str], track: Track
) -> Reference:
    """Return what training data are like: what is kept beside the checkpoint, or computed and kept.

    What is kept serves if it is of this very checkpoint, and of the data and the limit asked for
    as far as any are. Otherwise it is computed anew: what is read off scores all together, the
    likelihood, which takes far longer, only if it is among ``names``. A reference that cannot be
    kept is used all the same, with a warning. Where ranks share the computing, what the others than
    the first return lacks what was computed.

    Arguments:
        names: of `needs_reference`: what it has to tell of.

    Raises:
        UsageError: the training data are not known or not there, and none are named.
        DamagedInputError: what is kept is damaged or something else, or the data do not fit.
    """
    path = reference_path(wanted.model_file) if os.path.isfile(wanted.model_file) else None
    kept = _kept(path, wanted.checkpoint)
    limit = wanted.limit or (kept.limit if kept else EXAMPLES)
    if kept and wanted.data is None and limit == kept.limit and _tells(kept, model, names):
        return kept
    with _open_training_data(model, wanted, kept, limit) as examples:
        found = Reference(
            checkpoint=wanted.checkpoint,
            data=examples.name,
            digest=examples.digest,
            limit=limit,
            count=len(examples),
            statistics={},
        )
        if kept and _source(kept) == _source(found):
            found = kept
        if _tells(found, model, names):
            return found
        of_scores = [n for n in statistics_of(model) if n in (*BASES, MULTISCALE) and n != "nll"]
        every = dict.fromkeys(of_scores + names)
        missing = [name for name in every if not _tells(found, model, [name])]
        found = _measure(model, examples, missing, wanted, track, found)
    if path is not None and wanted.ranks.is_first:
        _keep(path, found)
    return found


def distances_from(reference: Reference, statistics: Sequence[str]) -> dict[str, Distance]:
    """Return those of `DISTANCES` that are named, from the data of a reference that tells of them.

    Arguments:
        statistics: names, others among them.
    """
    found: dict[str, Distance] = {}
    if spread := reference.multiscale:
        metric = Mahalanobis(np.array(spread.mean), np.array(spread.covariance))
        if MULTISCALE in statistics:
            found[MULTISCALE] = metric
        if NEAREST in statistics and reference.vectors is not None:
            found[NEAREST] = Nearest(metric, reference.vectors.astype(np.float64))
    return found


def training_data(trained: Trained) -> tuple[str, str]:
    """Return the DATA that a model was trained on, and the SHA-256 recorded of it.

    Raises:
        UsageError: the checkpoint does not tell.
    """
    if len(trained.inputs) == 1 and "-" not in trained.inputs:
        return next(iter(trained.inputs.items()))
    raise UsageError(
        "the checkpoint does not tell which data it was trained on, and the statistic is relative "
        "to them: name them with --reference DATA"
    )


def _kept(path: str | None, checkpoint: str) -> Reference | None:
    if path is None or not os.path.lexists(path):
        return None
    kept = load_reference_file(path)
    if kept.checkpoint != checkpoint:
        logger.info("%s: is of an earlier state of the model, computed anew", label(path))
        return None
    return kept


def _keep(path: str, reference: Reference) -> None:
    try:
        save_reference(path, reference)
    except OutputError as error:
        logger.warning("the typical statistics are not kept: %s", error)


def _source(reference: Reference) -> tuple[str, int, int]:
    return reference.digest, reference.limit, reference.count


@contextmanager
def _open_training_data(
    model: AutoregressiveModel, wanted: Request, kept: Reference | None, limit: int
) -> Iterator[Examples]:
    options = replace(wanted.options, limit=limit, shuffle=None)
    known: dict[str, Any] = {
        "default_split": "train",
        "like": model.config.shape,
        "names": model.config.columns,
        "given": model.config.given,
        "part": wanted.trained.seen,
    }
    if wanted.data is not None:
        stream = open_stream(wanted.data, options, **known)
        with stream as examples:
            check_shape(model, examples)
            yield examples
        return
    again = kept is not None and kept.data != "-"
    spec, digest = (kept.data, kept.digest) if kept and again else training_data(wanted.trained)
    with ExitStack() as stack:
        try:
            _check_place(spec)
            opened = open_stream(spec, options, **known)
            examples = stack.enter_context(opened)
            check_shape(model, examples)
            if os.path.isfile(path_of(spec) or "") and examples.digest != digest:
                raise UsageError(f"{label(spec)} has changed since")
        except ArcsmError as error:
            raise UsageError(
                f"the statistic is relative to training data, {label(spec)}, which cannot "
                f"be read ({error}): name them with --reference DATA"
            ) from error
        yield examples


def _check_place(spec: str) -> None:
    # The name comes out of a file: nothing is waited for or consumed because of it.
    path = path_of(spec)
    if path == "-":
        raise UsageError("it was standard input")
    if path and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UsageError(f"{label(spec)} is neither a file nor a folder")


def _tells(reference: Reference, model: AutoregressiveModel, names: list[str]) -> bool:
    """Whether a reference holds these names, `DISTANCES` of the levels now looked at."""
    fits = _fits(reference.multiscale, _levels(model))
    known = {MULTISCALE: fits, NEAREST: fits and reference.vectors is not None}
    return all(known.get(name, name in reference.statistics) for name in names)


def _fits(spread: Spread | None, levels: tuple[float, ...]) -> bool:
    return (
        spread is not None
        and len(spread.levels) == len(levels)
        and len(spread.mean) == FIGURES * len(levels)
        and np.allclose(spread.levels, levels, rtol=1e-6)
    )


def _levels(model: AutoregressiveModel) -> tuple[float, ...]:
    return tuple(sigma for sigma, _ in levels_of(model)) if isinstance(model, ARCSM) else ()


def _measure(
    model: AutoregressiveModel,
    examples: Examples,
    names: list[str],
    wanted: Request,
    track: Track,
    found: Reference,
) -> Reference:
    """Add these names to a reference, in one pass over its data."""
    levels = _levels(model)
    moments, kept = Moments(FIGURES * len(levels)), _First(MAX_VECTORS)
    with track(len(examples)) as bar:
        batches = evaluate(
            model,
            examples,
            metrics=[base_of(name) for name in names],
            batch_size=wanted.batch_size,
            seed=_SEED,
            ranks=wanted.ranks,
        )
        collected = collect(
            _without_vectors(batches, moments, kept),
            len(examples),
            advance=bar.update,
        )
    if not wanted.ranks.is_first:
        return found
    typical = {name: _typical(values) for name, values in collected.items()}
    found = replace(found, statistics=found.statistics | typical)
    if not {MULTISCALE, NEAREST} & set(names):
        return found
    covariance = tuple(map(tuple, moments.covariance.tolist()))
    spread = Spread(levels, tuple(moments.mean.tolist()), covariance)
    return replace(found, multiscale=spread, vectors=kept.rows())


class _First:
    """The first rows of vectors that come in batches, `count` of them."""

    def __init__(self, count: int) -> None:
        self._left, self._parts = count, list[NDArray[np.float32]]()

    def add(self, vectors: NDArray[np.float64]) -> None:
        self._parts.append(vectors[: self._left].astype(np.float32))
        self._left -= len(self._parts[-1])

    def rows(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts)


def _without_vectors(batches: Iterator[Found], moments: Moments, kept: _First) -> Iterator[Found]:
    """Hand on what is one number an example; of the vectors the moments and the first are kept."""
    for batch in batches:
        vectors = batch.figures.pop(MULTISCALE, None)
        if vectors is not None:
            moments.add(vectors.numpy())
            kept.add(vectors.numpy())
        yield batch


def _typical(values: NDArray[np.float64]) -> Typical:
    median = float(np.median(values))
    return Typical(median, float(np.median(np.abs(values - median))))
