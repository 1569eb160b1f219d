"""What runs HDF5 on a comparison file: `load_comparison` keeps it in another process."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import hdf5_guard
from arcsm_cli.io.streams import show

MAX_TABLES, MAX_COLUMNS = 16, 64


class ComparisonReader:
    """A comparison file that is open.

    Arguments:
        path: the file.
        name: what messages call it.

    Raises (as its methods do):
        DamagedInputError: the file is damaged.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name, self._size = name, path.stat().st_size
        with hdf5_guard.complaints(name):
            self._file = h5py.File(path, "r", locking=False)

    def format(self) -> str | None:
        """Return the format that the file claims."""
        with hdf5_guard.complaints(self._name):
            return hdf5_guard.text_attribute(self._file, "format", self._name)

    def texts(self) -> tuple[int | None, str | None, str | None]:
        """Return the version, the provenance and the description of the tables."""
        with hdf5_guard.complaints(self._name):
            return (
                hdf5_guard.integer_attribute(self._file, "format_version", self._name),
                hdf5_guard.text_attribute(self._file, "provenance", self._name),
                hdf5_guard.text_attribute(self._file, "comparison", self._name),
            )

    def check(self, tables: dict[str, list[str]]) -> None:
        """Check that the file holds these tables of these columns, and nothing else."""
        with hdf5_guard.complaints(self._name):
            hdf5_guard.members(self._file, set(tables), MAX_TABLES, self._name)
            for table, columns in tables.items():
                if table not in self._file or not hdf5_guard.is_group(self._file, table):
                    raise DamagedInputError(f"{self._name}: lacks the table {show(table)}")
                group = self._file[table]
                found = hdf5_guard.members(group, set(columns), MAX_COLUMNS, self._name)
                for column in set(columns) - set(found):
                    title = show(f"{table}/{column}")
                    raise DamagedInputError(f"{self._name}: lacks the column {title}")

    def column(self, table: str, column: str, rows: int) -> NDArray[Any]:
        """Return the numbers of a column, (rows,) float32."""
        title = f"{table}/{column}"
        with hdf5_guard.complaints(self._name):
            group = self._file[table]
            found = hdf5_guard.dataset(group, column, title, self._size, self._name)
            if found.shape != (rows,):
                raise DamagedInputError(
                    f"{self._name}: column {show(title)} has the shape {found.shape}"
                )
            return np.asarray(found.dataset[:])
