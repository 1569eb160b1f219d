"""What the processes of one command do together: sum, share out, hand over, wait."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from arcsm_cli.distributed.launch import Launch, launched
from arcsm_cli.distributed.rendezvous import meet, patience
from arcsm_cli.errors import UnavailableError

Batch = TypeVar("Batch")
Rows = TypeVar("Rows", covariant=True)


class Examples(Protocol[Rows]):
    """What can be read at any place: a data set or a stream."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Rows:
        """Return the examples from ``start`` on and before ``stop``."""


class Ranks:
    """The processes that run one command; by default a single one, for which all is done already.

    Arguments:
        launch: this process's place. More than one need `joined`.
    """

    def __init__(self, launch: Launch | None = None) -> None:
        self._launch = launch or Launch()

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return self._launch.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self._launch.size

    @property
    def is_first(self) -> bool:
        """Whether this one writes the files and speaks for all."""
        return self._launch.is_first

    def part(self, count: int) -> slice:
        """Return which of ``count`` rows are this rank's; the parts differ by one at most.

        Example:
            >>> Ranks(Launch(rank=1, size=3)).part(10)
            slice(3, 6, None)
        """
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all ranks' values, the same bits on each; changes ``values``."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.size == 1:
            return flag
        return bool(self.total(torch.tensor([int(flag)])).item())

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite every rank's tensors with those of the first."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def starts(self, count: int, size: int) -> range:
        """Return where this rank's batches begin, of ``count`` examples ``size`` at a time.

        Example:
            >>> list(Ranks(Launch(rank=1, size=2)).starts(100, 16))
            [16, 48, 80]
        """
        return range(self.rank * size, count, self.size * size)

    def own_count(self, count: int, size: int) -> int:
        """Return how many of ``count`` examples are in this rank's batches."""
        return sum(min(size, count - start) for start in self.starts(count, size))

    def batches(self, examples: Examples[Rows], size: int) -> Iterator[tuple[int, Rows]]:
        """Iterate over this rank's batches, each with the number of its first example."""
        for start in self.starts(len(examples), size):
            yield start, examples.rows(start, start + size)

    def in_order(self, batches: Iterator[Batch], count: int, size: int) -> Iterator[Batch]:
        """Bring all ranks' batches to the first one, in their order.

        Arguments:
            batches: those that `starts` names, made as they are asked for: a tensor (B, ...) on any
                device, or a named tuple or dictionary of them, alike but for B.
            count, size: as of `starts`.

        Yields:
            On the first rank every batch, those of others on the CPU; on the others nothing, but
            they have to be iterated for their batches to be made.
        """
        if self.size == 1:
            yield from batches
            return
        if not self.is_first:
            for batch in batches:
                for tensor in _tensors(batch):
                    torch.distributed.send(tensor.detach().cpu().contiguous(), 0)
            return
        pattern: Batch
        for number, start in enumerate(range(0, count, size)):
            owner = number % self.size
            if owner == 0:
                batch = next(batches)
                # A copy: what is done with the batch must not change what others' are like.
                pattern = _shaped(batch, (t.new_empty((0, *t.shape[1:])) for t in _tensors(batch)))
                yield batch
            else:
                yield self._received(pattern, min(size, count - start), owner)

    def _received(self, pattern: Batch, rows: int, owner: int) -> Batch:
        found = []
        for tensor in _tensors(pattern):
            like = torch.empty((rows, *tensor.shape[1:]), dtype=tensor.dtype)
            torch.distributed.recv(like, owner)
            found.append(like)
        batch: Batch = _shaped(pattern, iter(found))
        return batch


SOLO = Ranks()
"""A process by itself."""


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other processes of this command, if there are any, and part from them at the end.

    To be entered after all checks that need no other rank, and before anything is written: from
    then on every rank has passed them.

    Arguments:
        device: what the ranks compute on; GPUs talk over NCCL, all else over Gloo.

    Raises:
        UnavailableError: they cannot be reached, or one of them is gone.
    """
    launch = launched()
    if launch.size == 1:
        yield SOLO
        return
    backend = "cpu:gloo"
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
        backend += ",cuda:nccl"
    try:
        torch.distributed.init_process_group(
            backend,
            timeout=patience(),
            rank=launch.rank,
            world_size=launch.size,
            store=meet(launch),
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UnavailableError(
            f"the {launch.size} processes of this command do not meet: {error}"
        ) from error
    ranks = Ranks(launch)
    try:
        with _peers():
            yield ranks
            ranks.wait()  # the first one may still be writing: its end must not look like ours
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    """Turn the failure of another rank into an error that says so."""
    try:
        yield
    except RuntimeError as error:  # also out of the backward pass, where gradients are exchanged
        if not re.search("gloo|nccl|c10d", str(error), re.IGNORECASE):
            raise
        raise UnavailableError(
            "another process of this command ended before its time; its own message says why"
        ) from error


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    parts = batch.values() if isinstance(batch, dict) else batch
    return [tensor for part in parts for tensor in _tensors(part)]


def _shaped(pattern: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(pattern, Tensor):
        return next(tensors)
    if isinstance(pattern, dict):
        return {key: _shaped(part, tensors) for key, part in pattern.items()}
    return type(pattern)(*(_shaped(part, tensors) for part in pattern))
