"""Data read batch by batch, for commands whose memory must not grow with the number of examples.

Sample files, wherever they come from, are read block by block. Every other source is loaded as a
whole and offered through the same interface, that of `arcsm_cli.data.dataset.Dataset`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.columns import check_options, selected
from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.hdf5 import is_ours
from arcsm_cli.data.images import fit
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.shelf import Ours
from arcsm_cli.data.spec import load_data
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import label, local_input, sniff
from arcsm_cli.registry import SOURCES


class Examples(Protocol):
    """Examples in order, from memory (`Dataset`) or from a file (`SampleStream`)."""

    @property
    def name(self) -> str:
        """The specification that they came from, with its split where there is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (D,)."""

    @property
    def kind(self) -> str:
        """``"image"`` or ``"vector"``."""

    @property
    def digest(self) -> str:
        """SHA-256 of the input."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns of vectors, where they have names."""

    @property
    def source(self) -> list[dict[str, Any]]:
        """Provenance chain of the input, oldest entry first."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Batch:
        """Return the examples from ``start`` on and before ``stop``, as of `batches`."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over all examples, ``size`` at a time: (B, *shape), images float32 in [0, 1].

        Vectors are float64 where float32 does not carry them.
        """


class SampleStream:
    """The examples of an open sample file, read as they are asked for; see `Examples`.

    What it gives equals what `load_data` makes of the file, of which one batch is held at a time.

    Arguments:
        file: open, and kept open by the caller.
        name: the specification.
        digest: SHA-256 of the file.
        options: the limit, the crop, the size and the columns of the examples.
        names: of the columns, see `load_data`.

    Raises:
        DamagedInputError: the file holds no examples, or neither vectors nor images, or other
            columns.
        UsageError: an option is of other files, vectors are to be cropped or resized, or have no
            column that is asked for.
    """

    def __init__(
        self,
        file: SampleFile,
        name: str,
        digest: str,
        options: DataOptions,
        names: Sequence[str] = (),
    ) -> None:
        self._file, self._options = Ours(file, name, options), options
        self.name, self.digest = name, digest
        self.source = self._file.source
        self._count = min(self._file.count, options.limit or self._file.count)
        vectors, where = len(file.shape) == 1, label(name)
        check_options(options, "vector" if vectors else "image", where)
        self.columns: tuple[str, ...] | None = None
        self._index: list[int] | None = None
        if vectors:
            width = file.shape[0]
            self._index, self.columns = selected(options, file.columns, width, names, where)
        self.shape = tuple(self._values(0, 1).shape[1:])

    @property
    def kind(self) -> str:
        """``"image"`` or ``"vector"``."""
        return "image" if len(self.shape) == 3 else "vector"

    def __len__(self) -> int:
        return self._count

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over all examples, ``size`` at a time: (B, *shape).

        Raises:
            DamagedInputError: a block of the file is damaged.
        """
        for start in range(0, self._count, size):
            yield self.rows(start, start + size)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the examples from ``start`` on and before ``stop``, as of `batches`."""
        return Batch.of(self._values(start, stop))

    def _values(self, start: int, stop: int) -> Tensor:
        values = self._file.values(start, min(stop, self._count))
        values = fit(values, self._options)
        return values if self._index is None else values[:, self._index]


@contextmanager
def open_stream(
    spec: str,
    options: DataOptions,
    *,
    default_split: str,
    like: tuple[int, ...] | None = None,
    names: Sequence[str] = (),
    given: Conditions = (),
    part: Callable[[Dataset], str | None] | None = None,
) -> Iterator[Examples]:
    """Open the data that a specification names for reading in batches, while the context lasts.

    Arguments:
        spec, options, default_split, like, names, given, part: as for `load_data`. A sample file is
            loaded as a whole where a split of it is named (``samples.h5:test``), examples of it are
            taken at random, or something is given of them.

    Raises:
        ArcsmError: as `load_data`.

    Example:
        >>> with open_stream("digits", DataOptions(limit=5), default_split="test") as examples:
        ...     [batch.size for batch in examples.batches(2)]
        [2, 2, 1]
    """
    load = functools.partial(
        load_data, default_split=default_split, like=like, names=names, given=given, part=part
    )
    if not _is_file(spec):
        yield load(spec, options)
        return
    with local_input(spec) as path:
        streamed = options.shuffle is None and not given
        if streamed and sniff(path) == "samples" and is_ours(path):
            with SampleFile(path) as file:
                yield SampleStream(file, spec, sha256_file(path), options, names)
            return
        # A pipe can be read only once: from here on its spool file stands for it.
        where = spec if os.path.isfile(spec) and spec != "-" else os.fspath(path)
        data = load(where, options)
        yield replace(data, name=spec + data.name.removeprefix(where))


def _is_file(spec: str) -> bool:
    """Whether `load_data` would take a specification for a file or a pipe, as a whole."""
    if spec == "-":
        return True
    if spec in SOURCES or not os.path.exists(spec):
        return False
    return not os.path.isdir(spec)
