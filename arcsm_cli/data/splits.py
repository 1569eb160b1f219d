"""The rule by which data without splits of their own fall into train, valid and test.

An example's content alone decides, about 80, 10 and 10 in 100: the same rows fall alike in whatever
order and company they come, and equal rows stay together.
"""

import hashlib
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.names import SPLITS
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label

Hashes = NDArray[np.uint64]

ALL = "all"
"""Names the whole of data that have no splits of their own."""

PARTS = (*SPLITS, ALL)

# Of a hash as a share of the largest; the very largest round to 1.
_BOUNDS = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, np.inf)}
_BLOCK = 1 << 22  # bytes hashed at a time


def whole_of(name: str) -> str:
    """Return what to write for all of an input: of several files (`several.Several`), of each."""
    return " ".join(f"{label(word)}:{ALL}" for word in getattr(name, "said", (name,)))


def content_hash(content: bytes | memoryview) -> int:
    """Return 64 bits that depend on the bytes alone."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def file_hash(file: IO[bytes]) -> int:
    """Return the same of all that can be read of a file."""
    digest = hashlib.blake2b(digest_size=8)
    while block := file.read(_BLOCK):
        digest.update(block)
    return int.from_bytes(digest.digest(), "little")


def content_hashes(values: Tensor) -> Hashes:
    """Return a hash of each example's values (N x ...), rounded to single precision.

    That is what files of arrays and samples mostly hold: it makes a row the same in all of them.

    Example:
        >>> hashes = content_hashes(torch.tensor([[1.0, -0.0], [2.0, 3.0], [1.0, 0.0]]))
        >>> bool(hashes[0] == hashes[2]), bool(hashes[0] == hashes[1])
        (True, False)
    """
    flat = values.flatten(1)
    rows = max(1, _BLOCK // (4 * max(1, flat.shape[1])))
    found = np.empty(len(flat), np.uint64)
    for start in range(0, len(flat), rows):
        block = flat[start : start + rows].float().add(0.0).numpy()  # -0.0 becomes 0.0
        found[start : start + len(block)] = [content_hash(row.data) for row in block]
    return found


def split_rows(hashes: Hashes, split: str, name: str) -> Tensor:
    """Return the numbers (int64, ascending) of the examples that fall into a split.

    Arguments:
        hashes: of the examples.
        split: ``train``, ``valid`` or ``test``.
        name: the input, for messages.

    Raises:
        UsageError: none does.
    """
    rows = np.flatnonzero(_falls(hashes, split))
    if not len(rows):
        raise UsageError(
            f"{label(name)}: none of its {len(hashes)} examples falls into ':{split}'; "
            f"{whole_of(name)} takes all of them"
        )
    return torch.from_numpy(rows)


def split_numbers(hashes: Hashes) -> NDArray[np.uint8]:
    """Return which of `SPLITS` each example falls into, by place."""
    found = np.zeros(len(hashes), np.uint8)
    for place, split in enumerate(SPLITS):
        found[_falls(hashes, split)] = place
    return found


def count_of(hashes: Hashes, split: str) -> int:
    """Return how many examples fall into a split."""
    return int(_falls(hashes, split).sum())


def _falls(hashes: Hashes, split: str) -> NDArray[np.bool_]:
    low, high = _BOUNDS[split]
    place = hashes.astype(np.float64) / 2.0**64
    falls: NDArray[np.bool_] = (place >= low) & (place < high)
    return falls
