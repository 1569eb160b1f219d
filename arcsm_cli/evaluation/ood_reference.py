"""Typical values of a model's statistics over training data: found, computed and kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from arcsm_cli.data.dataset import DataOptions
from arcsm_cli.data.stream import Examples, open_stream
from arcsm_cli.errors import ArcsmError, OutputError, UsageError
from arcsm_cli.evaluation.model_metrics import check_shape
from arcsm_cli.evaluation.ood import BASES, collect, score, statistics_of
from arcsm_cli.io.reference_file import (
    Reference,
    Typical,
    load_reference_file,
    reference_path,
    save_reference,
)
from arcsm_cli.io.streams import label
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
        provenance: of the checkpoint, whose last training names the data.
        data: ``--reference``, or None for the data that the model was trained on.
        limit: ``--reference-limit``, or None.
        options: of data, but for the limit.
        batch_size: examples at a time.
    """

    model_file: str
    checkpoint: str
    provenance: list[dict[str, Any]]
    data: str | None
    limit: int | None
    options: DataOptions
    batch_size: int


def find_reference(
    model: AutoregressiveModel, wanted: Request, bases: list[str], track: Track
) -> Reference:
    """Return typical values of ``bases``: those kept beside the checkpoint, or computed and kept.

    What is kept serves if it is of this very checkpoint, and of the data and the limit asked for
    as far as any are. Otherwise it is computed anew: the statistics of scores all together, the
    likelihood, which takes far longer, only if it is among ``bases``. A reference that cannot be
    kept is used all the same, with a warning.

    Raises:
        UsageError: the training data are not known or not there, and none are named.
        DamagedInputError: what is kept is damaged or something else, or the data do not fit.
    """
    path = reference_path(wanted.model_file) if os.path.isfile(wanted.model_file) else None
    kept = _kept(path, wanted.checkpoint)
    limit = wanted.limit or (kept.limit if kept else EXAMPLES)
    if kept and wanted.data is None and limit == kept.limit and set(bases) <= set(kept.statistics):
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
        names = [name for name in statistics_of(model) if name in BASES and name != "nll"]
        missing = [n for n in dict.fromkeys(names + bases) if n not in found.statistics]
        if set(bases) <= set(found.statistics):
            return found
        added = _typical(model, examples, missing, wanted.batch_size, track)
    found = replace(found, statistics=found.statistics | added)
    if path is not None:
        _keep(path, found)
    return found


def training_data(provenance: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the DATA of the last ``train`` in a chain, and the SHA-256 recorded of it.

    Raises:
        UsageError: the chain does not tell.
    """
    for step in reversed(provenance):
        if step.get("command") != "train":
            continue
        inputs, arguments = step.get("inputs"), step.get("arguments")
        if not isinstance(inputs, dict) or not isinstance(arguments, list):
            break
        # Besides DATA, only a --config file is an input of a training.
        configs = {after for option, after in pairwise(arguments) if option == "--config"}
        configs |= {f"{text}".partition("--config=")[2] for text in arguments}
        found = [name for name in inputs if name not in configs]
        if len(found) == 1 and found[0] != "-":
            return found[0], str(inputs[found[0]])
        break
    raise UsageError(
        "the checkpoint does not tell which data it was trained on, and the statistic is relative "
        "to their median: name them with --reference DATA"
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
    options = replace(wanted.options, limit=limit)
    shape = model.config.shape
    if wanted.data is not None:
        with open_stream(wanted.data, options, default_split="train", like=shape) as examples:
            check_shape(model, examples)
            yield examples
        return
    again = kept is not None and kept.data != "-"
    spec, digest = (kept.data, kept.digest) if kept and again else training_data(wanted.provenance)
    with ExitStack() as stack:
        try:
            _check_place(spec)
            opened = open_stream(spec, options, default_split="train", like=shape)
            examples = stack.enter_context(opened)
            check_shape(model, examples)
            if os.path.isfile(spec) and examples.digest != digest:
                raise UsageError(f"{label(spec)} has changed since")
        except ArcsmError as error:
            raise UsageError(
                f"the statistic is relative to its median over training data, {label(spec)}, "
                f"which cannot be read ({error}): name them with --reference DATA"
            ) from error
        yield examples


def _check_place(spec: str) -> None:
    # The name comes out of a file: nothing is waited for or consumed because of it.
    if os.path.exists(spec) and not (os.path.isfile(spec) or os.path.isdir(spec)):
        raise UsageError(f"{label(spec)} is neither a file nor a folder")


def _typical(
    model: AutoregressiveModel, examples: Examples, names: list[str], batch_size: int, track: Track
) -> dict[str, Typical]:
    with track(len(examples)) as bar:
        batches = score(model, examples, statistics=names, batch_size=batch_size, seed=_SEED)
        collected = collect(batches, len(examples), lambda batch: bar.update(len(batch.examples)))
    typical = {}
    for name, values in collected.items():
        median = float(np.median(values))
        typical[name] = Typical(median, float(np.median(np.abs(values - median))))
    return typical
