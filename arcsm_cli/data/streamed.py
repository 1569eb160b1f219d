"""Training data that stay in their files: examples are read as they are needed."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import (
    Beside,
    Dataset,
    Rows,
    as_columns,
    as_float,
    carved,
    require_two,
)
from arcsm_cli.data.moments import Gathered, Moments
from arcsm_cli.data.names import SPLITS
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.precision import merged_among
from arcsm_cli.data.row_files import RowFiles
from arcsm_cli.data.sketch import with_batch
from arcsm_cli.data.splits import ALL, Hashes, whole_of
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label

_ROWS = 1 << 16  # told of at a time


class _Survey(NamedTuple):
    """What one pass over the examples finds; ``whole`` says which columns hold whole numbers."""

    moments: Moments
    sketch: Hashes
    digest: Any
    whole: Tensor


class StreamedRows(Rows):
    """Some of the examples of files, in the files' order; see `Rows`.

    Arguments:
        files: that hold them.
        taken: which of these files' examples.
        name: the specification, with its split.
    """

    def __init__(self, files: RowFiles, taken: NDArray[np.bool_], name: str) -> None:
        self._files, self._taken = files, taken
        self._encode: Callable[[Sequence[Beside]], Tensor] | None = None
        self.name, self.columns = name, files.columns
        self.digest, self.inputs = files.digest, files.inputs if len(files.inputs) > 1 else {}
        self.source, self.skipped = files.source, 0
        self.counts: NDArray[np.int64] = np.array(
            [np.count_nonzero(taken[start:stop]) for start, stop in files.blocks.tolist()], np.int64
        )
        """How many of the examples each of the files' blocks holds."""
        self._ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (D,)."""
        return self._files.shape

    @property
    def block_bytes(self) -> int:
        """What the largest block takes, in the file or in memory."""
        stored = self.stored(slice(0, 1)).x
        return max(self._files.block_bytes, int(self.counts.max()) * stored.nbytes)

    @property
    def beside(self) -> tuple[Beside, ...]:  # type: ignore[override]
        """What is known of each example beside its values; 8 bytes each."""
        return self._beside(torch.from_numpy(np.flatnonzero(self._taken)))

    def segment(self, block: int, low: int, high: int) -> Batch:
        """Return, as they are stored, those examples of a block from ``low`` on, before ``high``.

        Arguments:
            block: of the files' blocks.
            low, high: counted among the examples of the block, of which there are `counts`.
        """
        start, stop = self._files.blocks[block].tolist()
        rows = start + np.flatnonzero(self._taken[start:stop])[low:high]
        first, last = int(rows[0]), int(rows[-1]) + 1
        x = self._files.read(first, last)
        if len(rows) < last - first:
            x = x[torch.from_numpy(rows - first)]
        if self._encode is None:
            return Batch.of(x)
        return Batch(x, self._encode(self._beside(torch.from_numpy(rows))))

    def stored(self, index: Tensor | slice) -> Batch:
        """Return the examples at ``index`` (int64, or a slice) as they are stored."""
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        places, back = torch.unique(index, return_inverse=True)
        numbers = places.numpy()
        blocks = np.searchsorted(self._ends, numbers, "right")
        parts = []
        for block in np.unique(blocks).tolist():
            own = numbers[blocks == block] - (self._ends[block] - self.counts[block])
            low = int(own[0])
            found = self.segment(block, low, int(own[-1]) + 1)
            parts.append(found.rows(torch.from_numpy(own - low)))
        return Batch.joined(parts).rows(back)

    def select(self, index: Tensor, name: str | None = None) -> Dataset:
        """Return the examples at ``index`` (int64) in memory, under another name if given one."""
        found = self.stored(index)
        given = found.given if found.given.shape[1] else None
        return Dataset(
            *(name or self.name, found.x, None, self.digest, self.source, self.columns), given=given
        )

    def telling(self, encode: Callable[[Sequence[Beside]], Tensor]) -> StreamedRows:
        """Return the same examples with what a model is told of each, made of `beside`."""
        found = copy.copy(self)
        found._encode = encode
        for part in _pieces(found):
            encode(part)  # what the model does not know is refused before it is trained
        return found

    def column(self, index: int) -> Tensor:
        """Return all values of a column of vectors, (N,)."""
        blocks = np.flatnonzero(self.counts).tolist()
        return torch.cat([self.segment(b, 0, int(self.counts[b])).x[:, index] for b in blocks])

    def moments(self) -> Moments:
        """Return the moments of each column of vectors, or of all values of images (D = 1)."""
        return self._survey.moments

    def sketch(self) -> Hashes:
        """Return the sketch by which the examples are recognised."""
        return self._survey.sketch

    def content(self) -> str:
        """Return the SHA-256 of the examples themselves, and of what a model is told of them."""
        digest = self._survey.digest.copy()
        if self._encode is not None:
            for part in _pieces(self):
                digest.update(self._encode(part).numpy().data)
        found: str = digest.hexdigest()
        return found

    def merged_columns(self) -> list[int]:
        """Return the columns of vectors that `precision.merged_columns` names."""
        if self.stored(slice(0, 1)).x.dtype != torch.float64:
            return []
        found = self.moments()
        most = torch.maximum(found.low.abs(), found.high.abs())
        return merged_among(found.sd, most, self._survey.whole, self.column)

    @functools.cached_property
    def _survey(self) -> _Survey:
        gathered, digest, sketch = Gathered(), hashlib.sha256(), np.empty(0, np.uint64)
        whole = torch.ones(1, dtype=torch.bool)
        for block in np.flatnonzero(self.counts).tolist():
            start, stop = self._files.blocks[block].tolist()
            stored = self._files.read(start, stop)[torch.from_numpy(self._taken[start:stop])]
            digest.update(stored.contiguous().view(-1).numpy().data)
            x = as_float(stored)
            gathered.add(as_columns(x))
            sketch = with_batch(sketch, x)
            if x.dtype == torch.float64:
                whole = whole & (x == x.round()).all(0)
        return _Survey(gathered.moments(), sketch, digest, whole)

    def _beside(self, rows: Tensor) -> tuple[Beside, ...]:
        return tuple(part._replace(values=part.values[rows]) for part in self._files.found.beside)


def _pieces(data: StreamedRows) -> list[tuple[Beside, ...]]:
    known = data.beside
    return [
        tuple(part._replace(values=part.values[start : start + _ROWS]) for part in known)
        for start in range(0, len(data) if known else 0, _ROWS)
    ]


class Parts(NamedTuple):
    """What a run is given of files; see `spec.TrainingData`."""

    train: StreamedRows
    valid: StreamedRows
    part: str
    whole: int
    test: int


def training_parts(files: RowFiles, split: str | None, options: DataOptions) -> Parts:
    """Return the training and the held-out examples of files, as `spec.load_training` would.

    Arguments:
        split: that is named; ``all`` or None for everything.

    Raises:
        UsageError: none falls into the split, or there is only one example.
    """
    name, numbers = files.name, files.found.splits
    if split in (None, ALL):
        whole = _first(np.ones(len(files), bool), options)
        train, valid = _carved(files, whole, name)
        return Parts(train, valid, "", 0, 0)
    assert split is not None

    def rows(split: str) -> StreamedRows:
        taken = _first(numbers == SPLITS.index(split), options)
        if not taken.any():
            raise UsageError(
                f"{label(name)}: none of its {len(files)} examples falls into ':{split}'; "
                f"{whole_of(name)} takes all of them"
            )
        return StreamedRows(files, taken, f"{name}:{split}")

    train = rows(split)
    if split == "train":
        test = int((numbers == SPLITS.index("test")).sum())
        return Parts(train, rows("valid"), split, len(files), test)
    train, valid = _carved(files, _first(numbers == SPLITS.index(split), options), train.name)
    return Parts(train, valid, split, len(files), 0)


def _first(taken: NDArray[np.bool_], options: DataOptions) -> NDArray[np.bool_]:
    """Return which of the examples taken the options choose."""
    if options.limit is None and options.shuffle is None:
        return taken
    rows = np.flatnonzero(taken)
    found = np.zeros_like(taken)
    found[rows[options.chosen(len(rows)).numpy()]] = True
    return found


def _carved(
    files: RowFiles, taken: NDArray[np.bool_], name: str
) -> tuple[StreamedRows, StreamedRows]:
    """Part examples as `dataset.Dataset.carve` does."""
    rows = np.flatnonzero(taken)
    require_two(len(rows), name)
    found = []
    for part, called in zip(carved(len(rows)), (name, f"{name} (held out)"), strict=True):
        own = np.zeros_like(taken)
        own[rows[part.numpy()]] = True
        found.append(StreamedRows(files, own, called))
    return found[0], found[1]


def is_streamed(data: Rows) -> bool:
    """Return whether examples are in their files and not in memory."""
    return isinstance(data, StreamedRows)
