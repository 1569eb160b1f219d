"""MATLAB files of version 5 to 7.2, whose reader runs in a process of its own."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.data.dataset import MAX_BYTES
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.streams import label, show

MAT_MAGIC = b"MATLAB 5.0 MAT-file"

_NUMBERS = {
    *("single", "double", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


class MatFile:
    """The arrays of numbers in a MATLAB file, by name; see `named.NamedArrays`.

    Arguments:
        path: The file.

    Raises:
        DamagedInputError: It is damaged, or no such file.
    """

    def __init__(self, path: Path) -> None:
        self._where = label(path)
        self._file = Isolated(lambda: _Reader(path, self._where), self._where)
        try:
            self.declared: dict[str, tuple[list[int], str]] = {
                name: (shape, kind) for name, (shape, kind) in self._file.call("declared").items()
            }
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[str]:
        """What the arrays are called."""
        return [name for name, (_, kind) in self.declared.items() if kind in _NUMBERS]

    def read(self, name: str) -> NDArray[Any]:
        """Return one array of numbers.

        Raises:
            DamagedInputError: It is damaged, too large, or not what the file declared.
        """
        shape, kind = self.declared[name]
        size = math.prod(shape) * 8
        if size > MAX_BYTES:
            raise DamagedInputError(f"{self._where}: {show(name)} is more than fits in memory")
        array: NDArray[Any] = self._file.call("array", name, size=size)
        if list(array.shape) != list(shape):
            raise DamagedInputError(f"{self._where}: damaged: {show(name)} is not what it declares")
        return array.astype(bool) if kind == "logical" else array

    def close(self) -> None:
        """End the process that reads."""
        self._file.close()


class _Reader:
    """A MATLAB file, whose reader hostile files make take any memory or raise nearly anything."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def declared(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape and the type of each array by name."""
        from scipy.io import whosmat

        with self._errors():
            return {
                name: (tuple(map(int, shape)), kind) for name, shape, kind in whosmat(self._path)
            }

    def array(self, name: str) -> NDArray[Any]:
        """Return one array of plain numbers."""
        from scipy.io import loadmat

        with self._errors():
            found = np.asarray(loadmat(self._path, variable_names=[name])[name])
            if found.dtype.kind not in "iuf":
                raise TypeError("no numbers")
            return found

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedInputError(f"{self._name}: damaged, or no MATLAB 5 file") from error
