"""The examples of HDF5 files, read in blocks: what splits them is found out in one pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data import columns
from arcsm_cli.data.dataset import Beside
from arcsm_cli.data.images import fit
from arcsm_cli.data.moments import Gathered
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.precision import far_columns, merged_among
from arcsm_cli.data.several import beside, check_alike, digest_of, sources
from arcsm_cli.data.shelf import Shard, Shelf
from arcsm_cli.data.splits import content_hashes, split_numbers
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.streams import label

BLOCK = 1 << 20
"""Bytes of a file that are read at a time, at least: a few rows more where rows are compressed
together."""


class _Found(NamedTuple):
    """What one pass over all examples finds.

    Attributes:
        splits: which of `names.SPLITS` each falls into, by place.
        beside: what is known of each, as ``--given`` asks for it.
        wide: whether vectors stay in double precision.
    """

    splits: NDArray[np.uint8]
    beside: tuple[Beside, ...]
    wide: bool


class RowFiles:
    """One or several HDF5 files as one, with the columns and the size that the options ask for.

    Of the examples of one block at a time is kept what they are, and of each example one byte and
    what ``--given`` asks for (8 bytes each).

    Arguments:
        paths: of the files.
        member: the array in each of them; empty if none was named.
        options: how they are read; which examples are taken is for others to say.
        name: the specification.

    Attributes:
        name: the specification.
        blocks: (K, 2), where each block begins and ends among all examples; none lies in two files.
        block_bytes: of the largest.
        chosen: a command of this program wrote the files, and chose their examples.
        memory: bytes that the values of all examples would take.

    Raises:
        ArcsmError: a file cannot be read in blocks of examples, or is unlike the first.
    """

    def __init__(self, paths: Sequence[str], member: str, options: DataOptions, name: str) -> None:
        self.name, self._options = name, options
        self._shelf = Shelf(paths)
        try:
            self._shards = [
                self._shelf.shard(i, options, member) for i in range(len(self._shelf.paths))
            ]
            for shard in self._shards:
                shard.check_packing()
            check_alike(self._shards)
            first = self._shards[0]
            self._check(first)
        except BaseException:
            self._shelf.close()
            raise
        self.chosen = bool(first.source)
        self.memory = sum(
            shard.count * int(np.prod(shard.shape)) * shard.dtype.itemsize for shard in self._shards
        )
        starts = np.cumsum([0, *(shard.count for shard in self._shards)])
        self._starts: list[int] = starts.tolist()
        found = []
        for shard, start in zip(self._shards, self._starts, strict=False):
            step = max(1, BLOCK // max(1, shard.row_bytes))
            step = -(-step // shard.packed[0]) * shard.packed[0]
            edges = [*range(0, shard.count, step), shard.count]
            found += [(start + a, start + b) for a, b in pairwise(edges)]
        self.blocks = np.array(found, np.int64)
        most = max(shard.row_bytes for shard in self._shards)
        self.block_bytes = int((self.blocks[:, 1] - self.blocks[:, 0]).max()) * most

    def _check(self, first: Shard) -> None:
        options, vectors = self._options, len(first.shape) == 1
        where = label(first.path)
        columns.check_options(options, "vector" if vectors else "image", where)
        self._index: Tensor | None = None
        self.columns = first.names
        if vectors:
            index = columns.chosen(options, first.names, first.shape[0], where)
            if index is not None:
                self._index = torch.tensor(index)
                self.columns = first.names and tuple(first.names[i] for i in index)
        self._wide = any(shard.dtype == torch.float64 for shard in self._shards)

    def __len__(self) -> int:
        return self._starts[-1]

    @functools.cached_property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of each file, by its path."""
        return {path: sha256_file(path) for path in self._shelf.paths}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the file, or of those of several."""
        return digest_of(self.inputs)

    @functools.cached_property
    def source(self) -> list[dict[str, Any]]:
        """Provenance chain of the files."""
        return sources([shard.source for shard in self._shards])

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self._fitted(self._values(0, 1)).shape[1:])

    def read(self, start: int, stop: int) -> Tensor:
        """Return the examples from ``start`` on and before ``stop``, all of one file.

        Raises:
            DamagedInputError: they cannot be read, or are not finite.
        """
        return self._fitted(self._values(start, stop))

    @functools.cached_property
    def found(self) -> _Found:
        """What one pass over all examples finds.

        Raises:
            DamagedInputError: an example is not finite, or black and white can be doubted.
        """
        splits = np.empty(len(self), np.uint8)
        known = []
        doubt = _Doubt()
        for start, stop in self.blocks.tolist():
            shard, first = self._shard(start)
            block = shard.block(start - first, stop - first)
            decisive = block.values if self._index is None else block.values[:, self._index]
            splits[start:stop] = split_numbers(content_hashes(decisive))
            doubt.add(block.values)
            if self._options.asked:
                known.append(columns.choose(block, self._options).beside)
        for shard in self._shards:
            shard.check_extent()
        # This program's own files hold double precision where it is needed.
        wide = self._wide and (self.chosen or doubt.needs_double(self._column))
        return _Found(splits, beside(known), wide)

    def _shard(self, start: int) -> tuple[Shard, int]:
        place = int(np.searchsorted(self._starts, start, "right")) - 1
        return self._shards[place], self._starts[place]

    def _values(self, start: int, stop: int) -> Tensor:
        shard, first = self._shard(start)
        return shard.values(start - first, stop - first)

    def _fitted(self, values: Tensor) -> Tensor:
        values = fit(values, self._options)
        if self._wide and values.dim() == 2:
            values = values.double() if self.found.wide else values.float()
        return values if self._index is None else values[:, self._index]

    def _column(self, index: int) -> Tensor:
        parts = [self._values(start, stop)[:, index] for start, stop in self.blocks.tolist()]
        return torch.cat(parts).double()

    def close(self) -> None:
        """End the process that reads."""
        self._shelf.close()


class _Doubt:
    """Whether vectors in double precision need it, as `precision.narrowed` decides."""

    def __init__(self) -> None:
        self._gathered = Gathered()
        self._rounds: Tensor | None = None
        self._whole: Tensor | None = None

    def add(self, values: Tensor) -> None:
        if values.dtype != torch.float64:
            return
        self._gathered.add(values)
        rounds = (values.float().double() != values).any(0)
        whole = (values == values.round()).all(0)
        self._rounds = rounds if self._rounds is None else self._rounds | rounds
        self._whole = whole if self._whole is None else self._whole & whole

    def needs_double(self, column: Any) -> bool:
        if self._rounds is None or self._whole is None:
            return False
        mean, sd, low, high = self._gathered.moments()
        if bool((far_columns(mean, sd) & self._rounds).any()):
            return True
        most = torch.maximum(low.abs(), high.abs())
        return bool(merged_among(sd, most, self._whole, column))
