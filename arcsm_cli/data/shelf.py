"""HDF5 files whose examples are read in blocks of rows, one or several as one.

One process, forked off for the purpose, runs HDF5 on all of them (see `arcsm_cli.io.isolated`); it
keeps the last few open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.arrays import label_count, label_values
from arcsm_cli.data.dataset import Beside, Dataset, require_finite
from arcsm_cli.data.given import as_classes
from arcsm_cli.data.hdf5 import Hdf5File, Hdf5Reader
from arcsm_cli.data.layout import arranged, guess, sides
from arcsm_cli.data.named import choose
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.scale import (
    BYTES,
    black_and_white,
    brightest_grey,
    composited,
    require_bright,
    scaled,
)
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.sample_layout import statistic_of
from arcsm_cli.io.sample_reader import SampleReader
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import label, show

_OPEN = 32  # files at a time
_MOST_PACKED = 1 << 27  # bytes that may have to be unpacked to read one example


class _Reader:
    """What runs HDF5 on the files."""

    def __init__(self, files: Sequence[tuple[Path, str]]) -> None:
        self._files = files
        self._open: OrderedDict[int, Any] = OrderedDict()

    def is_ours(self, number: int) -> bool:
        """Return whether a file says that it is this program's."""
        return isinstance(self._at(number), SampleReader)

    def ask(self, number: int, method: str, *arguments: Any) -> Any:
        """Return what the reader of a file returns."""
        return getattr(self._at(number), method)(*arguments)

    def _at(self, number: int) -> Any:
        if number not in self._open:
            if len(self._open) >= _OPEN:
                self._open.popitem(last=False)
            path, where = self._files[number]
            reader: Any = Hdf5Reader(path, where)
            if (reader.format() or "").startswith("arcsm-"):
                reader = SampleReader(path, where)
            self._open[number] = reader
        self._open.move_to_end(number)
        return self._open[number]


class Shelf:
    """Opens HDF5 files in one process.

    Arguments:
        paths: Of the files.

    Raises:
        UnavailableError: No process can be started.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        names = [(Path(path), label(path)) for path in paths]
        self._process = Isolated(lambda: _Reader(names), names[0][1])

    def shard(self, number: int, options: DataOptions, member: str) -> Shard:
        """Open a file; `Ours` and `Others` say what is raised."""
        path, where = self.paths[number], label(self.paths[number])
        reader = _File(self._process, number, where)
        if self._process.call("is_ours", number, name=where) and not member:
            return Ours(SampleFile(path, reader), path, options)
        return Others(path, reader, options, member)

    def close(self) -> None:
        """End the process."""
        self._process.close()


@dataclass(frozen=True)
class _File:
    """One of a shelf's files, as `arcsm_cli.io.isolated.Caller`."""

    process: Isolated
    number: int
    where: str

    def call(self, method: str, *arguments: Any, size: int = 0) -> Any:
        return self.process.call("ask", self.number, method, *arguments, size=size, name=self.where)


class Shard(ABC):
    """The examples of one file, read as `files.load_file` reads all of them.

    Attributes:
        path: Of the file.
        count: How many examples it holds.
        shape: Of one, before ``--columns``.
        dtype: Of their values as they are read.
        row_bytes: Of an example in the file.
        packed: How many rows are unpacked to read one, and their bytes; see `Hdf5File.chunk`.
        names: Of the columns.
        source: Provenance chain.
    """

    path: str
    count: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    row_bytes: int
    packed: tuple[int, int]
    names: tuple[str, ...] | None = None
    source: list[dict[str, Any]]

    @abstractmethod
    def values(self, start: int, stop: int) -> Tensor:
        """Return examples as a data set holds them, but for columns and size."""

    @abstractmethod
    def beside(self, start: int, stop: int) -> tuple[Tensor | None, tuple[Beside, ...]]:
        """Return their labels and what else is known of them, as ``--given`` asks for it."""

    @abstractmethod
    def check_extent(self) -> None:
        """Refuse pictures, all of which were read, whose black and white can be doubted."""

    def block(self, start: int, stop: int) -> Dataset:
        """Return examples with all that is known of them."""
        labels, beside = self.beside(start, stop)
        values = self.values(start, stop)
        return Dataset(*(self.path, values, labels, "none", self.source, self.names), beside=beside)

    def check_packing(self) -> None:
        """Refuse what takes too much unpacking to be read in blocks.

        Raises:
            DamagedInputError: With what helps.
        """
        if self.packed[1] > _MOST_PACKED:
            raise DamagedInputError(
                f"{label(self.path)}: is compressed in pieces of {self.packed[1] >> 20} MiB, too "
                "large to read examples by the way: write it anew with smaller chunks (h5repack), "
                "or read it into memory with --stream no"
            )


class Ours(Shard):
    """A sample file.

    Arguments:
        file: Open, and kept open by the caller.
        name: What messages call it.
        options: Of which ``given`` is read.

    Raises:
        DamagedInputError: It holds no examples, or neither vectors nor images.
        UsageError: An option is of files of others.
    """

    def __init__(self, file: SampleFile, name: str, options: DataOptions) -> None:
        where = label(name)
        if options.layout is not None or options.value_range is not None:
            raise UsageError(f"{where}: --layout and --range are of files of others")
        self._file, self._options = file, options
        self.path, self.count, self.shape = name, len(file), file.shape
        if not self.count or len(self.shape) not in (1, 3):
            raise DamagedInputError(
                f"{where}: samples of shape {sides((self.count, *self.shape))}; expected N x D or "
                "N x C x H x W, N at least 1"
            )
        self.dtype = torch.float64 if file.wide else torch.float32
        self.row_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.packed, self.names = file.chunk(), file.columns
        self.source = list(file.provenance)

    def values(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self._file.read(start, stop))  # noisy pixels may leave [0, 1]

    def beside(self, start: int, stop: int) -> tuple[Tensor | None, tuple[Beside, ...]]:
        labels = None
        if "labels" in self._file.names:
            found = self._file.read(start, stop, "labels")
            labels = label_values(found, len(found), f"{label(self.path)}, labels")
        return labels, tuple(
            Beside(item.name, torch.from_numpy(self._file.read(start, stop, name)).double())
            for item in self._options.asked
            if (name := statistic_of(item.name)) in self._file.names
            and item.name not in (self.names or ())
        )

    def check_extent(self) -> None:
        """Refuse nothing: black and white of a sample file are known."""


class Others(Shard):
    """A file that another program wrote.

    Raises:
        MissingInputError: It has no array of the name asked for.
        DamagedInputError: It can be read in several ways, or not in blocks of examples.
    """

    def __init__(self, path: str, reader: _File, options: DataOptions, member: str) -> None:
        self.path, self._options, self.source = path, options, []
        self._file = Hdf5File(Path(path), reader)
        where, names = label(path), self._file.names
        self._name, beside = choose(names, member, where, options.labels_named)
        self._asked = options.labels_named if beside == options.labels_named else ""
        shape, kind = self._file.declared(self._name)
        self._where = f"{where}, {show(self._name)}"
        if not shape or 0 in shape:
            raise DamagedInputError(f"{self._where}: shape {sides(shape)} holds no examples")
        # As large as the array to whoever asks, and of one number.
        like = np.broadcast_to(np.zeros((), kind), shape)
        labels = None if beside is None else np.broadcast_to(0, self._file.declared(beside)[0])
        count = None if labels is None else label_count(labels)
        opacity = options.background is not None
        self._axes = options.layout or guess(like, self._where, count, opacity=opacity)
        if not self._axes.startswith("N"):
            raise DamagedInputError(
                f"{self._where}: its examples, --layout {self._axes}, lie side by side and cannot "
                "be read in blocks: use --stream no, or write it with the examples first"
            )
        arrangement = arranged(like, self._axes)
        self._composes = opacity and arrangement.ndim == 4 and arrangement.shape[1] in (2, 4)
        self.count = arrangement.shape[0]
        channels = (arrangement.shape[1] - 1,) if self._composes else arrangement.shape[1:2]
        self.shape = (*channels, *arrangement.shape[2:])
        self._bytes = kind == np.uint8 and options.black_and_white in (None, BYTES)
        exact = np.can_cast(kind, np.float32)
        if len(self.shape) == 1:
            if options.value_range is not None:
                raise UsageError(f"--range: {self._where} holds vectors, not images")
            self.dtype = torch.float32 if exact else torch.float64
        else:
            self.dtype = torch.uint8 if self._bytes else torch.float32
        self._kind, self._exact = kind, np.float32 if exact else np.float64
        self.row_bytes = int(np.prod(shape[1:])) * kind.itemsize
        self.packed = self._file.chunk(self._name)
        self._low, self._high, self._brightest = np.inf, -np.inf, 0
        self._labels: Tensor | None = None
        if beside is not None and any(item.labels for item in options.asked):
            self._labels = label_values(
                self._file.read(beside), self.count, f"{where}, {show(beside)}"
            )

    def values(self, start: int, stop: int) -> Tensor:
        rows = self._file.rows(self._name, start, stop, (stop - start) * self.row_bytes)
        array = arranged(rows, self._axes)
        if array.ndim == 2 or array.dtype.kind == "f":
            values = torch.from_numpy(np.ascontiguousarray(array, dtype=self._exact))
            require_finite(values, self._where, start)
            if array.ndim == 2:
                return values
        if self._bytes:
            self._brightest = max(self._brightest, brightest_grey(array))
            array = np.ascontiguousarray(array)
        else:
            self._low = min(self._low, float(array.min()))
            self._high = max(self._high, float(array.max()))
            array = np.ascontiguousarray(
                scaled(array, *(self._options.black_and_white or (0.0, 1.0)))
            )
        if self._composes:
            array = composited(array, self._options.background_level)
        return torch.from_numpy(array)

    def beside(self, start: int, stop: int) -> tuple[Tensor | None, tuple[Beside, ...]]:
        labels = None if self._labels is None else self._labels[start:stop]
        if labels is None or not self._asked:
            return labels, ()
        return labels, (as_classes(self._asked, labels),)

    def check_extent(self) -> None:
        given = self._options.black_and_white
        if len(self.shape) == 1:
            return
        if self._bytes and given is None:
            require_bright(self._brightest, self._where)
        elif not self._bytes:
            black_and_white(self._kind, self._low, self._high, given, self._where)
