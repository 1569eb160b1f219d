"""Which examples a step learns from: epochs over data in memory, or over files in blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Rows
from arcsm_cli.data.streamed import StreamedRows
from arcsm_cli.distributed.ranks import Ranks
from arcsm_cli.randomness import Purpose, generator_for

POOL = 128 << 20
"""Bytes of examples that a run over files holds, and draws its batches from."""

_LANES = 16
"""Parts of the files that batches are taken from side by side, as far as the pool has room: so many
ranks read their own part alone."""


class Batches(Protocol):
    """The batches of a run; each is a function of the data, the seed and its step."""

    def at(self, step: int, *, whole: bool) -> Batch:
        """Return a step's examples as they are stored.

        Arguments:
            whole: all of them, and not only this rank's; the others' rows may be anything.
        """


def batches_of(data: Rows, size: int, seed: int, ranks: Ranks) -> Batches:
    """Return the batches of a run, of ``size`` examples or all if there are fewer."""
    size = min(size, len(data))
    if isinstance(data, StreamedRows):
        return StreamedBatches(data, size, seed, ranks)
    return HeldBatches(data, size, seed)


@dataclass
class HeldBatches:
    """Deterministic epochs over a data set: a fresh permutation each, the ragged end dropped."""

    data: Rows
    size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def at(self, step: int, *, whole: bool = True) -> Batch:
        """Return a step's examples; see `Batches`."""
        epoch, index = divmod(step, len(self.data) // self.size)
        if epoch != self._epoch:
            generator = generator_for(self.seed, Purpose.ORDER, epoch)
            self._order = torch.randperm(len(self.data), generator=generator)
            self._epoch = epoch
        return self.data.stored(self._order[index * self.size : (index + 1) * self.size])


class StreamedBatches:
    """Deterministic epochs over files that are read in blocks, the ragged end dropped.

    Each epoch puts the blocks in a fresh order and cuts them into lanes of equal length. A batch
    takes the next rows of every lane, always the same places of the batch from the same lane; so a
    rank, whose places lie side by side, reads the lanes of these alone. A lane reads a few blocks
    at a time, its pool, and shuffles their rows. The pools of all lanes take `POOL` bytes. The
    first ones are smaller, from lane to lane, so that lanes read in turn and not all at once.

    Arguments:
        data: in files.
        size: of a batch.
        seed: of the order.
        ranks: share each batch.
    """

    def __init__(self, data: StreamedRows, size: int, seed: int, ranks: Ranks) -> None:
        self._data, self._size, self._seed, self._ranks = data, size, seed, ranks
        self._per_epoch = len(data) // size
        blocks = max(1, POOL // max(1, data.block_bytes))
        count = min(_LANES, size, blocks)
        self._edges = [size * lane // count for lane in range(count + 1)]
        self._pooled = max(1, blocks // count)
        self._epoch = -1
        self._lanes: dict[int, _Lane] = {}

    def at(self, step: int, *, whole: bool) -> Batch:
        """Return a step's examples; see `Batches`."""
        epoch, index = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        own = slice(0, self._size) if whole else self._ranks.part(self._size)
        found: Batch | None = None
        for lane, (low, high) in enumerate(pairwise(self._edges)):
            if high <= own.start or low >= own.stop:
                continue
            rows = self._lane(lane).rows(index)
            if found is None:
                x, given = (t.new_zeros(self._size, *t.shape[1:]) for t in (rows.x, rows.given))
                found = Batch(x, given)
            found.x[low:high], found.given[low:high] = rows.x, rows.given
        assert found is not None
        return found

    def _begin(self, epoch: int) -> None:
        self._epoch, self._lanes = epoch, {}
        held = np.flatnonzero(self._data.counts)
        generator = generator_for(self._seed, Purpose.ORDER, epoch)
        self._blocks = held[torch.randperm(len(held), generator=generator).numpy()]
        self._ends = np.cumsum(self._data.counts[self._blocks])

    def _lane(self, number: int) -> _Lane:
        if number not in self._lanes:
            low, high = self._edges[number : number + 2]
            rows = slice(low * self._per_epoch, high * self._per_epoch)
            first = 1 + number * self._pooled // (len(self._edges) - 1)
            index = self._epoch * _LANES + number
            self._lanes[number] = _Lane(
                self._data,
                self._segments(rows),
                high - low,
                (first, self._pooled),
                self._seed,
                index,
            )
        return self._lanes[number]

    def _segments(self, rows: slice) -> list[_Segment]:
        """Return the pieces of blocks that hold these rows of the epoch's blocks."""
        found = []
        for place in range(int(np.searchsorted(self._ends, rows.start, "right")), len(self._ends)):
            block, end = int(self._blocks[place]), int(self._ends[place])
            start = end - int(self._data.counts[block])
            if start >= rows.stop:
                break
            found.append((block, max(rows.start, start) - start, min(rows.stop, end) - start))
        return found


_Segment = tuple[int, int, int]
"""A block, and which of its examples: from the first number on, before the second."""


class _Lane:
    """Part of an epoch's rows, pool after pool, each shuffled.

    Arguments:
        segments: its rows, in order.
        width: rows of a batch.
        pools: blocks of the first pool, and of the others.
        seed, index: of the shuffling.
    """

    def __init__(
        self,
        data: StreamedRows,
        segments: list[_Segment],
        width: int,
        pools: tuple[int, int],
        seed: int,
        index: int,
    ) -> None:
        self._data, self._width, self._seed, self._index = data, width, seed, index
        first, others = pools
        cuts = [0, *range(first, len(segments), others), len(segments)]
        self._pools = [segments[a:b] for a, b in pairwise(cuts) if a < b]
        lengths = [sum(high - low for _, low, high in pool) for pool in self._pools]
        self._edges = np.cumsum([0, *lengths])
        self._place = -1
        self._held = Batch(torch.empty(0), torch.empty(0))

    def rows(self, index: int) -> Batch:
        """Return the rows of a batch of the epoch, by its number."""
        start, stop = index * self._width, (index + 1) * self._width
        parts = []
        while start < stop:
            place = int(np.searchsorted(self._edges, start, "right")) - 1
            first, end = int(self._edges[place]), int(self._edges[place + 1])
            parts.append(self._pool(place).rows(slice(start - first, min(stop, end) - first)))
            start = end
        return Batch.joined(parts)

    def _pool(self, place: int) -> Batch:
        if place != self._place:
            self._held = Batch(torch.empty(0), torch.empty(0))  # before the next one is read
            pool = [self._data.segment(*segment) for segment in self._pools[place]]
            found = Batch.joined(pool)
            # Less than 2^24 pools: of an epoch's lane, each of a block at least.
            generator = generator_for(self._seed, Purpose.POOLS, (self._index << 24) + place)
            order = torch.randperm(found.size, generator=generator)
            self._held, self._place = found.rows(order), place
        return self._held
