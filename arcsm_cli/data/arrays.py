"""NumPy files (.npy, .npz) and arrays to data set values. No pickle is ever read."""

import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.archives import Wary
from arcsm_cli.data.dataset import MAX_BYTES, require_finite
from arcsm_cli.data.layout import arranged, guess, sides
from arcsm_cli.data.options import DEFAULT, DataOptions
from arcsm_cli.data.scale import composited, unit_range
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, show

Array = NDArray[Any]

NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096
_HEADER_ERRORS = (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError)
_MAX_RATIO, _MAX_SMALL = 100, 2**28  # an .npz larger than both, unpacked, is taken for a bomb
_CHUNK = 2**24


def is_npy(path: Path) -> bool:
    """Return whether a file is an .npy file by its first bytes, sound or not."""
    with open(path, "rb") as file:
        return file.read(len(NPY_MAGIC)) == NPY_MAGIC


def read_npy(path: Path) -> Array:
    """Read an .npy file of plain numbers.

    Raises:
        DamagedInputError: It is damaged, or holds objects, text or structures.
    """
    with open(path, "rb") as file:
        return _read_array(file, path.stat().st_size, label(path))


@contextmanager
def open_npz(path: Path) -> Iterator["Npz"]:
    """Open an .npz file for reading array by array.

    Raises:
        DamagedInputError: It is damaged, expands without bounds, or an array of it is as of
            `read_npy`; whatever goes wrong while the context lasts.
    """
    where = label(path)
    try:
        with open(path, "rb", buffering=0) as raw, zipfile.ZipFile(Wary(raw, _CHUNK)) as archive:
            yield Npz(archive, max(_MAX_SMALL, _MAX_RATIO * path.stat().st_size), where)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DamagedInputError(f"{where}: damaged: {show(str(error), 100)}") from error
    except (RuntimeError, ValueError, OSError, struct.error) as error:
        # encrypted, packed in a way that NumPy does not use, or with a broken directory
        raise DamagedInputError(f"{where}: cannot be unpacked: {show(str(error), 100)}") from error


class Npz:
    """The arrays of an open .npz file, by name.

    Arguments:
        archive: The file.
        bound: Bytes of the largest array that is taken for sound.
        where: What messages call it.

    Attributes:
        others: Names of the members that are no arrays.
    """

    def __init__(self, archive: zipfile.ZipFile, bound: int, where: str) -> None:
        self._archive, self._bound, self._where = archive, bound, where
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        self.others = [name for name in archive.namelist() if not name.endswith(".npy")]

    @property
    def names(self) -> list[str]:
        """What the arrays are called."""
        return list(self._members)

    def read(self, name: str) -> Array:
        """Return one array.

        Raises:
            DamagedInputError: It is no array of numbers, or would expand without bounds.
        """
        info, where = self._members[name], f"{self._where}, {show(name)}"
        if info.file_size > self._bound:
            raise DamagedInputError(f"{where}: would expand to {info.file_size} bytes")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedInputError(f"{where}: cannot be unpacked: only deflate is supported")
        with self._archive.open(info) as stream:
            return _read_array(stream, info.file_size, where)


def image_or_vector(
    array: Array,
    where: str,
    options: DataOptions = DEFAULT,
    count: int | None = None,
    *,
    columns: bool = False,
) -> Tensor:
    """Bring an array into the form of a data set.

    Arguments:
        array: Vectors or pictures, of numbers of any type.
        where: The input, for messages.
        options: The layout, the range and the background, where the array leaves these open (see
            `layout.guess` and `scale.unit_range`).
        count, columns: As of `layout.guess`.

    Returns:
        N x C x H x W, uint8 (8-bit images) or float32; or N x D, float32 or, of types that it does
        not hold, float64.

    Raises:
        DamagedInputError: No examples, values that are not finite, or several readings.
        UsageError: An option does not fit the array.
    """
    if array.ndim == 0 or 0 in array.shape:
        raise DamagedInputError(f"{where}: shape {sides(array.shape)} holds no examples")
    if array.size * 4 > MAX_BYTES:
        raise DamagedInputError(f"{where}: {array.size} values are more than fit in memory")
    opacity = options.background is not None
    axes = options.layout or guess(array, where, count, opacity=opacity, columns=columns)
    array = arranged(array, axes)
    exact = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    if array.ndim == 2:
        if options.value_range is not None:
            raise UsageError(f"--range: {where} holds vectors, not images")
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=exact))
        require_finite(values, where)
        return values
    if array.dtype.kind == "f":
        require_finite(torch.from_numpy(array.astype(exact)), where)
    array = np.ascontiguousarray(unit_range(array, options.black_and_white, where))
    if opacity and array.shape[1] in (2, 4):
        array = composited(array, options.background_level)
    return torch.from_numpy(array)


def label_count(array: Array) -> int:
    """Return how many examples labels are for: as many as they have rows, or all in one row."""
    return (
        array.size if array.ndim == 2 and len(array) == 1 else array.shape[0] if array.ndim else 1
    )


def label_values(array: Array, count: int, where: str) -> Tensor:
    """Bring labels into the form of a data set (int64, shape N).

    Rows that are 0 but for a single 1 stand for the place of the 1.

    Raises:
        DamagedInputError: They are not ``count`` whole numbers.
    """
    if array.ndim == 2 and len(array) == count and array.shape[1] > 1:
        ones = (array == 1).sum(1) == 1
        if (ones & ((array == 0).sum(1) == array.shape[1] - 1)).all():
            array = array.argmax(1)
    flat = array.reshape(-1)
    if len(flat) != count or flat.dtype.kind not in "iufb":
        raise DamagedInputError(f"{where}: {len(flat)} labels of {flat.dtype} for {count} examples")
    if flat.dtype.kind == "f" and not (np.abs(flat) < 2**53).all():  # NaN compares false
        raise DamagedInputError(f"{where}: labels are not whole numbers")
    labels = flat.astype(np.int64)
    if not (labels == flat).all():
        raise DamagedInputError(f"{where}: labels are not whole numbers")
    return torch.from_numpy(labels)


def _read_array(stream: IO[bytes], size: int, where: str) -> Array:
    """Read one array from ``size`` bytes in the .npy format (versions 1 to 3)."""
    shape, fortran, dtype = _read_header(stream, where)
    declared = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if declared != held:
        raise DamagedInputError(
            f"{where}: holds {held} bytes of values where its header declares {declared}"
        )
    if declared > MAX_BYTES:
        raise DamagedInputError(f"{where}: {declared} bytes are more than fit in memory")
    buffer = np.empty(declared, np.uint8)
    view, position = buffer.data, 0
    while position < declared:
        part = stream.read(min(_CHUNK, declared - position))
        if not part:
            raise DamagedInputError(f"{where}: truncated")
        view[position : position + len(part)] = part
        position += len(part)
    array = buffer.view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    # A header may claim four gigabytes, which NumPy would read before it refuses them.
    start = io.BytesIO(stream.read(_MAX_HEADER))
    try:
        version = npy.read_magic(start)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DamagedInputError(f"{where}: is not an .npy array of a known version")
        # Version 3 differs from 2 in the names of structures alone, which are refused.
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of whole numbers as Python 2 wrote them
            shape, fortran, dtype = read(start, max_header_size=_MAX_HEADER)
    except (*_HEADER_ERRORS, tokenize.TokenError) as error:
        raise DamagedInputError(f"{where}: damaged: {show(str(error), 100)}") from error
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DamagedInputError(f"{where}: holds {show(dtype)}, not plain numbers")
    if (
        len(shape) > 8
        or any(type(side) is not int or side < 0 for side in shape)
        or math.prod(max(1, side) for side in shape) >= 2**59  # elements, if no side were zero
    ):
        raise DamagedInputError(f"{where}: damaged header")
    stream.seek(start.tell())
    return shape, fortran, dtype
