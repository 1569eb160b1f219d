"""What runs HDF5 on a sample file: `SampleFile` keeps it in another process."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from arcsm_cli.io import bounded_json, hdf5_guard, sample_layout


class SampleReader:
    """A sample file that is open, everything but its numbers checked.

    Arguments:
        path: the file.
        name: what messages call it.

    Raises:
        DamagedInputError: it is damaged, of another kind, or points outside itself.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        with hdf5_guard.complaints(name):
            # Outputs appear whole, so there is nothing to lock against, and some cluster file
            # systems cannot lock.
            file = h5py.File(path, "r", locking=False)
            self._provenance = sample_layout.read_header(file, name)
            self._found = sample_layout.find(file, path.stat().st_size, name)
            self._columns = sample_layout.read_columns(file, self._found["samples"].shape, name)

    def contents(self) -> tuple[dict[str, tuple[int, ...]], bool, list[str] | None, str]:
        """Return the datasets' shapes, whether samples are float64, names, the provenance."""
        shapes = {name: found.shape for name, found in self._found.items()}
        wide = self._found["samples"].dataset.dtype.itemsize == 8
        return shapes, wide, self._columns, bounded_json.dump(self._provenance)

    def chunk(self, name: str) -> tuple[int, int]:
        """Return how a dataset is compressed, see `hdf5_guard.unpacked_rows`."""
        with hdf5_guard.complaints(self._name):
            return hdf5_guard.unpacked_rows(self._found[name])

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` of a dataset, in the type that the file has.

        Raises:
            DamagedInputError: they cannot be read.
        """
        with hdf5_guard.complaints(self._name):
            return np.asarray(self._found[name].dataset[start:stop])
