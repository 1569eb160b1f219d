"""HDF5 files that other programs wrote, whose datasets are read by their paths."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5l, h5o
from numpy.typing import NDArray

from arcsm_cli.data.dataset import MAX_BYTES
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import hdf5_guard
from arcsm_cli.io.isolated import Caller, Isolated
from arcsm_cli.io.streams import label, show

MAX_OBJECTS = 4096
"""More objects in the groups of a file are refused."""

MAX_DEPTH = 16
"""Groups within groups are followed so deep."""

_BLOCK = 1 << 26  # bytes read at a time


class Hdf5File:
    """The datasets of numbers in an HDF5 file, by path; see `named.NamedArrays`.

    Links to other places and files are not followed, and datasets of texts, structures and other
    types are as if they were not there.

    Arguments:
        path: The file.
        reader: A process that reads it already, which outlives this object; else one of its own.

    Attributes:
        format: What the file says that it is, ``None`` for nothing, as files of others.
        names: Paths of the datasets, without the first slash.

    Raises:
        DamagedInputError: It is damaged, or holds more than a data set would.
    """

    def __init__(self, path: Path, reader: Caller | None = None) -> None:
        self._where = label(path)
        self._own = None
        if reader is None:
            reader = self._own = Isolated(lambda: Hdf5Reader(path, self._where), self._where)
        self._file = reader
        try:
            self.format: str | None = self._file.call("format")
            self.names: list[str] = self._file.call("names")
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> NDArray[Any]:
        """Return one dataset.

        Raises:
            DamagedInputError: It is damaged, incomplete, stored elsewhere or too large.
        """
        shape, kind = self.declared(name)
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size > MAX_BYTES:
            raise DamagedInputError(f"{self._where}: {show(name)} is more than fits in memory")
        array = np.empty(shape, kind)
        rows = max(1, _BLOCK // max(1, size // max(1, shape[0])))
        for start in range(0, shape[0], rows):
            part = array[start : start + rows]
            part[...] = self.rows(name, start, start + rows, part.nbytes)
        return array

    def declared(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and the type of a dataset, checked as of `read`."""
        shape, kind = self._file.call("declared", name)
        return tuple(shape), np.dtype(kind)

    def rows(self, name: str, start: int, stop: int, size: int) -> NDArray[Any]:
        """Return the rows of a dataset from ``start`` on and before ``stop``, ``size`` bytes."""
        found: NDArray[Any] = self._file.call("read", name, start, stop, size=size)
        return found

    def chunk(self, name: str) -> tuple[int, int]:
        """Return how a dataset is compressed, see `hdf5_guard.unpacked_rows`."""
        rows, size = self._file.call("chunk", name)
        return rows, size

    def close(self) -> None:
        """End the process that reads, if it is of this object's own."""
        if self._own is not None:
            self._own.close()


def is_ours(path: Path) -> bool:
    """Return whether an HDF5 file says that it is one of this program's, sound or not.

    Raises:
        DamagedInputError: It cannot be opened.
    """
    with closing(Hdf5File(path)) as file:
        return (file.format or "").startswith("arcsm-")


class Hdf5Reader:
    """What runs HDF5 on the file: `Hdf5File` keeps it in another process."""

    def __init__(self, path: Path, where: str) -> None:
        self._where, self._size = where, path.stat().st_size
        self._known: dict[str, hdf5_guard.Found] = {}
        with hdf5_guard.complaints(where):
            self._file = h5py.File(path, "r", locking=False)

    def format(self) -> str | None:
        """Return the attribute of that name."""
        with hdf5_guard.complaints(self._where):
            if "format" not in self._file.attrs:
                return None
            return hdf5_guard.text_attribute(self._file, "format", self._where)

    def names(self) -> list[str]:
        """Return the paths of all datasets of numbers."""
        found: list[str] = []
        with hdf5_guard.complaints(self._where):
            self._walk(self._file, "", found, [0])
        return found

    def declared(self, name: str) -> tuple[tuple[int, ...], str]:
        """Return the shape and the type of a dataset, checked."""
        with hdf5_guard.complaints(self._where):
            found = self._found(name)
            return found.shape, found.dataset.dtype.str

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows of a dataset."""
        with hdf5_guard.complaints(self._where):
            return np.asarray(self._found(name).dataset[start:stop])

    def chunk(self, name: str) -> tuple[int, int]:
        """Return how a dataset is compressed, see `hdf5_guard.unpacked_rows`."""
        with hdf5_guard.complaints(self._where):
            return hdf5_guard.unpacked_rows(self._found(name))

    def _found(self, name: str) -> hdf5_guard.Found:
        if name not in self._known:
            self._known[name] = self._checked(name)
        return self._known[name]

    def _checked(self, name: str) -> hdf5_guard.Found:
        *groups, member = name.split("/")
        group = self._file
        for part in groups:  # each was found as a hard link to a group
            group = group[part]
        return hdf5_guard.numbers(group, member, name, self._size, self._where)

    def _walk(self, group: Any, path: str, found: list[str], seen: list[int]) -> None:
        for member in group:
            seen[0] += 1
            if seen[0] > MAX_OBJECTS or path.count("/") >= MAX_DEPTH:
                raise DamagedInputError(
                    f"{self._where}: holds more than {MAX_OBJECTS} objects, or {MAX_DEPTH} groups "
                    "within each other"
                )
            if not isinstance(member, str) or not member.isprintable():
                continue
            key = member.encode()
            if group.id.links.get_info(key).type != h5l.TYPE_HARD:
                continue
            kind = h5o.get_info(group.id, key).type
            if kind == h5o.TYPE_GROUP:
                self._walk(group[member], f"{path}{member}/", found, seen)
            elif kind == h5o.TYPE_DATASET and hdf5_guard.is_plain(h5d.open(group.id, key)):
                found.append(f"{path}{member}")
