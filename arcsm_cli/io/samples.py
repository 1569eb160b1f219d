"""Sample files: HDF5 written in a stream and read in blocks, never as a whole."""

import math
import os
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import ArcsmError, DamagedInputError
from arcsm_cli.io import bounded_json, hdf5_guard
from arcsm_cli.io.isolated import Caller, Isolated
from arcsm_cli.io.provenance import parse_chain
from arcsm_cli.io.sample_layout import EXAMPLES, FORMAT, FORMAT_VERSION, STATISTICS
from arcsm_cli.io.sample_reader import SampleReader
from arcsm_cli.io.sink import Sink, signals_held
from arcsm_cli.io.streams import HDF5_SIGNATURE, describe, label, local_input, show

_CHUNK_BYTES = 64 << 10
_CHUNK_ROWS = 1024
_BLOCK_BYTES = 4 << 20
_LIBVER = ("v110", "v110")  # the first whose metadata carry checksums throughout


class SampleWriter:
    """Writes a sample file, example by example; a context manager.

    Equal content gives equal bytes, however it is cut into batches. Wrap it in
    `atomic.atomic_output` and give it the temporary path.

    Args:
        path: the file to write; an existing one is replaced.
        shape: of one example: (C, H, W) or (D,).
        provenance: the chain of commands, this one last.
        columns: names of the D columns of vectors, where they have names.

    Raises:
        OSError: the system refused to write; nothing else of HDF5's comes through.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        provenance: list[dict[str, Any]],
        columns: tuple[str, ...] | None = None,
    ) -> None:
        if not shape or min(shape) < 1 or len(shape) >= hdf5_guard.MAX_DIMENSIONS:
            raise ValueError(f"no example has the shape {shape}")
        self.shape = tuple(shape)
        self._rows = 0
        self._wide = False
        self._pending: dict[str, list[NDArray[Any]]] = {}
        self._waiting = 0  # examples in it
        self._file: Any = None
        self._sink = Sink(path)
        try:
            with self._sink.errors():
                self._file = h5py.File(self._sink, "w", libver=_LIBVER)
                self._file.attrs["format"] = FORMAT
                self._file.attrs["format_version"] = FORMAT_VERSION
                self._file.attrs["provenance"] = bounded_json.dump(provenance)
                if columns:
                    self._file.attrs["columns"] = bounded_json.dump(list(columns))
        except BaseException:
            self._abandon()
            raise

    def __len__(self) -> int:
        return self._rows

    def append(
        self,
        samples: Any,
        *,
        clean: Any = None,
        corrupted: Any = None,
        labels: Any = None,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        """Add a batch of examples; every batch must give the same datasets as the first.

        Args:
            samples: (N, *shape) array or tensor, finite. Vectors that are float64 in the first
                batch with examples are written so, all else as float32.
            clean: what the examples were before corruption, in the type of ``samples``.
            corrupted: what they were after it, likewise.
            labels: (N,) integers.
            statistics: by name, (N, ...) floats; infinite where a density is zero, never NaN.

        Raises:
            ArcsmError: NaN, or infinity where it may not be.
            ValueError: shapes or datasets do not fit.
            OSError: the system refused to write.
        """
        given = {"samples": samples, "clean": clean, "corrupted": corrupted, "labels": labels}
        given |= {f"{STATISTICS}/{key}": value for key, value in sorted((statistics or {}).items())}
        if not self._rows:  # a file without examples says nothing of their type
            self._wide = len(self.shape) == 1 and _is_double(samples)
        arrays = {
            key: _array(key, value, wide=self._wide and key in EXAMPLES)
            for key, value in given.items()
            if value is not None
        }
        if self._pending and self._pending.keys() != arrays.keys():
            raise ValueError(f"batches differ in their datasets: {sorted(arrays)}")
        count = len(arrays["samples"])
        for key, array in arrays.items():
            self._check(key, array, count)
        for key, array in arrays.items():
            self._pending.setdefault(key, []).append(array)
        self._rows += count
        self._waiting += count
        block = max(1, _BLOCK_BYTES // sum(_row_bytes(array) for array in arrays.values()))
        if self._waiting >= block:
            self._flush(block, self._waiting - self._waiting % block)

    def _flush(self, block: int, stop: int) -> None:
        # HDF5 lays chunks out in the order in which its cache drops them. Writing in blocks that
        # only the shapes decide keeps the batches out of the file's bytes.
        arrays = {key: np.concatenate(parts) for key, parts in self._pending.items()}
        with self._sink.errors():
            for start in range(0, max(stop, 1), block):
                for key, array in arrays.items():
                    self._write(key, array[start : min(start + block, stop)])
        self._pending = {key: [array[stop:].copy()] for key, array in arrays.items()}
        self._waiting -= stop

    def _check(self, key: str, array: NDArray[Any], count: int) -> None:
        wanted = (count, *self.shape)
        if key in EXAMPLES and array.shape != wanted:
            raise ValueError(f"{key} has the shape {array.shape}, where {wanted} is expected")
        if array.shape[:1] != (count,) or (key == "labels" and array.ndim != 1):
            raise ValueError(f"{key} has the shape {array.shape}, for {count} examples")
        if 0 in array.shape[1:] or (
            self._pending and array.shape[1:] != self._pending[key][0].shape[1:]
        ):
            raise ValueError(f"{key} has the shape {array.shape}, unlike the batches before")
        if "/" in key.removeprefix(f"{STATISTICS}/") or key in (f"{STATISTICS}/", "statistics/."):
            raise ValueError(f"{key!r} is not a name for a statistic")
        if not _sound(key, array):
            raise ArcsmError(f"refusing to write NaN or infinite values as {key}")

    def _write(self, key: str, array: NDArray[Any]) -> None:
        if key not in self._file:
            rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // _row_bytes(array)))
            self._file.create_dataset(
                key,
                shape=(0, *array.shape[1:]),
                maxshape=(None, *array.shape[1:]),
                chunks=(rows, *array.shape[1:]),
                dtype=array.dtype.newbyteorder("<"),
                fletcher32=True,
            )
        dataset = self._file[key]
        written = len(dataset)
        dataset.resize(written + len(array), axis=0)
        dataset[written:] = array

    def _abandon(self) -> None:
        self._sink.close()  # nothing more will be written, so nothing more can fail
        if self._file is not None:
            with signals_held(), suppress(OSError, RuntimeError, ValueError):
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            if not self._pending:
                self.append(np.empty((0, *self.shape), np.float32))
            self._flush(max(1, self._waiting), self._waiting)
            with self._sink.errors():
                self._file.close()
            self._sink.close()
        except BaseException:
            self._abandon()
            raise


class SampleFile:
    """Reads a sample file in blocks; a context manager.

    Everything but the numbers is checked on opening, and the numbers of each block as they are
    read. Memory is bounded by the blocks asked for. HDF5 itself runs in a process of its own (see
    `arcsm_cli.io.isolated`), so that no file can crash or stop this one.

    Args:
        source: a path, or ``-`` for standard input.
        reader: a process that reads it already, which outlives this object; else one of its own.

    Attributes:
        shape: of one example: (C, H, W) or (D,).
        wide: whether examples are float64, since float32 does not carry them.
        names: the datasets present: ``samples`` first, then ``clean``, ``corrupted``, ``labels``
            and ``statistics/NAME`` as far as they are there.
        columns: names of the D columns of vectors; None where they have no names.
        provenance: the chain of commands that made the file, oldest first.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is of another kind, damaged, incomplete, from a later version of the
            format, or points outside itself.
    """

    def __init__(self, source: str | os.PathLike[str], reader: Caller | None = None) -> None:
        self._name = label(source)
        with ExitStack() as stack:
            path = stack.enter_context(local_input(source))
            with open(path, "rb") as file:
                head = file.read(16)
                if not head.startswith(HDF5_SIGNATURE):
                    raise DamagedInputError(
                        f"{self._name}: is {describe(head)}, where a sample file (HDF5) is expected"
                    )
            if reader is None:
                own = Isolated(lambda: SampleReader(path, self._name), self._name)
                stack.callback(own.close)
                reader = own
            self._reader = reader
            shapes, self.wide, columns, chain = self._reader.call("contents")
            self.columns: tuple[str, ...] | None = None if columns is None else tuple(columns)
            self._shapes: dict[str, tuple[int, ...]] = {k: tuple(v) for k, v in shapes.items()}
            self.provenance = parse_chain(chain, self._name)
            self.names = list(self._shapes)
            self.shape = self._shapes["samples"][1:]
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        return self._shapes["samples"][0]

    def read(self, start: int, stop: int, name: str = "samples") -> NDArray[Any]:
        """Examples ``start`` to ``stop`` (not included, cut at the end) of one dataset.

        Returns:
            (stop - start, ...) float32, finite (statistics may be infinite); ``labels`` as int64,
            examples of a `wide` file as float64.

        Raises:
            DamagedInputError: the block cannot be read, or holds NaN or infinity.
            KeyError: there is no such dataset; see `names`.
        """
        count, *row = self._shapes[name]
        start, stop, _ = slice(start, stop).indices(count)
        stop = max(start, stop)
        size = (stop - start) * math.prod(row) * 8  # at most so many bytes
        block = self._reader.call("read", name, start, stop, size=size)
        array: NDArray[Any] = np.asarray(block, dtype=_dtype(name, wide=block.dtype.itemsize == 8))
        if not _sound(name, array):
            raise DamagedInputError(
                f"{self._name}: dataset {show(name)} holds NaN or infinite values"
            )
        return array

    def chunk(self, name: str = "samples") -> tuple[int, int]:
        """How many rows are unpacked to read one, and their bytes; (1, 0) if none are packed."""
        rows, size = self._reader.call("chunk", name)
        return rows, size

    def close(self) -> None:
        """Close the file; leaving the context does the same."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_double(values: Any) -> bool:
    return str(getattr(values, "dtype", "")).endswith("float64")  # of an array or a tensor


def _dtype(key: str, *, wide: bool) -> Any:
    if key == "labels":
        return np.int64
    return np.float64 if wide and key in EXAMPLES else np.float32


def _array(key: str, values: Any, *, wide: bool) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, wherever it lies; bfloat16 is unknown to numpy
        values = values.detach().cpu()
        if values.is_floating_point() and not _is_double(values):
            values = values.float()
        values = values.numpy()
    values = np.asarray(values)
    if key == "labels" and values.dtype.kind not in "iub":
        raise ValueError(f"labels are {values.dtype}, where integers are expected")
    with np.errstate(over="ignore"):  # becomes infinite, which is reported
        return np.array(values, dtype=_dtype(key, wide=wide), order="C")


def _row_bytes(array: NDArray[Any]) -> int:
    return max(1, array.dtype.itemsize * math.prod(array.shape[1:]))


def _sound(key: str, array: NDArray[Any]) -> bool:
    if key.startswith(STATISTICS):
        return not np.isnan(array).any()
    # Whatever its type: all that reads a number may take it as one of 32 bits.
    return array.dtype.kind in "iu" or bool((np.abs(array) <= np.finfo(np.float32).max).all())
