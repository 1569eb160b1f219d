"""Figures of examples: read batch by batch, brought to the first rank, collected and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.given import classes, label_numbers
from arcsm_cli.data.stream import Examples
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.sample_output import Append, append_nothing
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.vae import VAE


class Found(NamedTuple):
    """What was found out about one batch, on the CPU.

    Attributes:
        examples: (B, *shape), as evaluated or restored, in file units.
        figures: (B,) each by name, now and then vectors (B, F).
        beside: further versions of the examples by name, ``clean`` and ``corrupted``; ``labels``.
    """

    examples: Tensor
    figures: dict[str, Tensor]
    beside: dict[str, Any]


Read = Callable[[Batch, range], Found]
"""Reads figures off a batch in file units; the range numbers its examples."""


def found_in(
    examples: Examples, read: Read, *, batch_size: int, ranks: Ranks = SOLO
) -> Iterator[Found]:
    """Read figures off examples, batch by batch and in order.

    Arguments:
        read: called with each batch; its figures must not depend on what else is in the batch.
        ranks: share the batches, all of which the first one gets; see `Ranks.in_order`.

    Raises:
        DamagedInputError: a figure is not a number.
    """
    own = (
        _checked(read(batch, range(start, start + batch.size)), examples.name)
        for start, batch in ranks.batches(examples, batch_size)
    )
    return ranks.in_order(own, len(examples), batch_size)


def collect(
    batches: Iterator[Found],
    count: int,
    *,
    append: Append = append_nothing,
    advance: Callable[[int], None] = lambda examples: None,
) -> dict[str, NDArray[np.float64]]:
    """Return the figures of all batches by name, (count,) each; empty where none are brought.

    They are written into arrays made beforehand: thousands of small ones, made between the large
    ones of the batches, would keep the C library from reusing those.

    Arguments:
        batches: of `found_in`.
        count: how many examples they have together.
        append: writes them as they come, see `arcsm_cli.io.sample_output.sample_output`.
        advance: called with the number of examples of each batch.
    """
    collected: dict[str, NDArray[np.float64]] = {}
    start = 0
    for batch in batches:
        stop = start + len(batch.examples)
        for name, values in batch.figures.items():
            collected.setdefault(name, np.empty(count))[start:stop] = values.numpy()
        append(batch.examples, statistics=batch.figures, **batch.beside)
        advance(stop - start)
        start = stop
    return collected


def labels_beside(model: AutoregressiveModel, batch: Batch) -> dict[str, Tensor]:
    """Return the labels that examples are given, as files hold them, if that is all they are."""
    known = classes(model.config.given)
    return {} if known is None else {"labels": label_numbers(known)[batch.given.argmax(1).cpu()]}


def check_shape(model: AutoregressiveModel | VAE, data: Examples) -> None:
    """Refuse data of another shape than the model's.

    Raises:
        DamagedInputError: naming both shapes.
    """
    if data.shape != model.config.shape:
        theirs, ours = (" x ".join(map(str, s)) for s in (data.shape, model.config.shape))
        raise DamagedInputError(f"{data.name}: examples are {theirs}, the model's are {ours}")


def _checked(found: Found, source: str) -> Found:
    if not all(bool(values.isfinite().all()) for values in found.figures.values()):
        raise DamagedInputError(f"{source}: the model's figures are not numbers on these data")
    return found
