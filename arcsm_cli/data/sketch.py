"""A min-hash sketch of examples: few numbers that tell how many of them a set holds.

The smallest hashes of a set are a random draw of it that any other set can repeat, so the share of
them that the other set has estimates the share of the examples (Broder 1997, "On the resemblance
and containment of documents"). Of sets of at most `SIZE` examples it is exact; else its standard
error is at most 0.03.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from arcsm_cli.data.splits import Hashes, content_hashes

SIZE = 256
_MOST = 4096  # of a file's


def sketch_of(batches: Iterable[Tensor]) -> Hashes:
    """Return the `SIZE` smallest hashes of examples, ascending, each once.

    Arguments:
        batches: of the examples.
    """
    smallest = np.empty(0, np.uint64)
    for batch in batches:
        smallest = with_batch(smallest, batch)
    return smallest


def with_batch(sketch: Hashes, batch: Tensor) -> Hashes:
    """Return the sketch of a set with a batch of further examples."""
    return np.union1d(sketch, content_hashes(batch))[:SIZE]


def share_found(sketch: Hashes, batches: Iterable[Tensor]) -> float:
    """Return the share of a sketch's examples that are among others.

    Example:
        >>> import torch
        >>> x = torch.arange(10.0).view(10, 1)
        >>> share_found(sketch_of([x]), [x[:2], x[:3]])
        0.3
    """
    found: set[int] = set()
    for batch in batches:
        found.update(np.intersect1d(sketch, content_hashes(batch)).tolist())
    return len(found) / len(sketch)


def to_json(sketch: Hashes) -> list[str]:
    """Return a sketch as JSON has it: 16 hexadecimal digits each."""
    return [f"{number:016x}" for number in sketch.tolist()]


def from_json(values: Any) -> Hashes | None:
    """Return the sketch that a file's JSON holds; None if it is none."""
    if not isinstance(values, list) or not 0 < len(values) <= _MOST:
        return None
    try:
        if not all(len(value) == 16 for value in values):
            return None
        return np.unique(np.array([int(value, 16) for value in values], np.uint64))
    except (TypeError, ValueError, OverflowError):
        return None
