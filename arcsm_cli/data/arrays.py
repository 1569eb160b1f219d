"""NumPy files (.npy, .npz) and arrays to data set values. No pickle is ever read."""

import ast
import io
import math
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.dataset import MAX_BYTES, require_finite
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.streams import label, show

Array = NDArray[Any]

DATA_NAMES = ("images", "samples", "x")
"""Names under which an .npz file holds its examples; else it may hold one array of any name."""

LABEL_NAMES = ("labels", "y")

NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096
_MAX_RATIO, _MAX_SMALL = 100, 2**28  # an .npz larger than both, unpacked, is taken for a bomb
_CHUNK = 2**24
_TOLERANCE = 1e-4


def read_npy(path: Path) -> Array:
    """Read an .npy file of plain numbers.

    Raises:
        DamagedInputError: It is damaged, or holds objects, text or structures.
    """
    with open(path, "rb") as file:
        return _read_array(file, path.stat().st_size, label(path))


def read_npz(path: Path) -> tuple[Array, Array | None]:
    """Read the examples of an .npz file, and its labels if it has any.

    The examples are called ``images``, ``samples`` or ``x``, or are the only array besides the
    labels (``labels`` or ``y``).

    Raises:
        DamagedInputError: It is damaged, expands without bounds, or has no such array.
    """
    where = label(path)
    try:
        with open(path, "rb", buffering=0) as raw, zipfile.ZipFile(_Wary(raw)) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            name = _data_name(members, where)
            bound = max(_MAX_SMALL, _MAX_RATIO * path.stat().st_size)

            def read(member: str) -> Array:
                info = members[member]
                if info.file_size > bound:
                    raise DamagedInputError(
                        f"{where}: {show(member)} would expand to {info.file_size} bytes"
                    )
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DamagedInputError(
                        f"{where}: {show(member)} cannot be unpacked: only deflate is supported"
                    )
                with archive.open(info) as stream:
                    return _read_array(stream, info.file_size, f"{where}, {show(member)}")

            labels = next((read(key) for key in LABEL_NAMES if key in members), None)
            return read(name), labels
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DamagedInputError(f"{where}: damaged: {show(str(error), 100)}") from error
    except (RuntimeError, ValueError, OSError, struct.error) as error:
        # encrypted, packed in a way that NumPy does not use, or with a broken directory
        raise DamagedInputError(f"{where}: cannot be unpacked: {show(str(error), 100)}") from error


def image_or_vector(array: Array, where: str, *, bounded: bool = True) -> Tensor:
    """Bring an array into the form of a data set.

    Arguments:
        array: Vectors N x D, or images N x H x W, N x C x H x W or N x H x W x C (recognised by a
            last axis of 1 or 3), 8-bit or floating point.
        where: The input, for messages.
        bounded: Whether floating-point images must lie in [0, 1] (up to rounding, which is
            clipped); samples of a model may exceed it.

    Returns:
        N x C x H x W, uint8 (8-bit images) or float32; or N x D, float32 or, of types that it does
        not hold, float64.

    Raises:
        DamagedInputError: Another shape, no examples, values that are not finite or out of range.
    """
    shape = "x".join(map(str, array.shape)) or "scalar"
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DamagedInputError(
            f"{where}: shape {shape}; expected vectors N x D, or images N x H x W, "
            "N x C x H x W or N x H x W x C, with N at least 1"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim == 4 and array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if array.size * 4 > MAX_BYTES:
        raise DamagedInputError(f"{where}: {array.size} values are more than fit in memory")
    wide = array.ndim == 2 and not np.can_cast(array.dtype, np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and told below
        dtype = np.float64 if wide else np.float32
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
    require_finite(values, where)
    if values.dim() == 4 and bounded:
        low, high = values.aminmax()
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise DamagedInputError(
                f"{where}: pixels run from {low.item():g} to {high.item():g}; expected [0, 1], or "
                "8-bit ones of type uint8"
            )
        values = values.clamp(0, 1)
    return values


def label_values(array: Array, count: int, where: str) -> Tensor:
    """Bring labels into the form of a data set (int64, shape N).

    Raises:
        DamagedInputError: They are not ``count`` whole numbers.
    """
    flat = array.reshape(-1)
    if len(flat) != count or flat.dtype.kind not in "iufb":
        raise DamagedInputError(f"{where}: {len(flat)} labels of {flat.dtype} for {count} examples")
    if flat.dtype.kind == "f" and not (np.abs(flat) < 2**53).all():  # NaN compares false
        raise DamagedInputError(f"{where}: labels are not whole numbers")
    labels = flat.astype(np.int64)
    if not (labels == flat).all():
        raise DamagedInputError(f"{where}: labels are not whole numbers")
    return torch.from_numpy(labels)


class _Wary(io.BufferedReader):
    """A file of which nobody reads much at once: a zip archive's directory is read as a whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, all for -1."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > _CHUNK:
            raise zipfile.BadZipFile(f"{size} bytes where a directory of names is expected")
        return super().read(size)


def _data_name(members: dict[str, Any], where: str) -> str:
    for name in DATA_NAMES:
        if name in members:
            return name
    others = [name for name in members if name not in LABEL_NAMES]
    if len(others) == 1:
        return others[0]
    found = ", ".join(list(members)[:8]) or "none"
    raise DamagedInputError(
        f"{where}: no array 'images', 'samples' or 'x', nor a single other one; found {show(found)}"
    )


def _read_array(stream: IO[bytes], size: int, where: str) -> Array:
    """Read one array from ``size`` bytes in the .npy format (versions 1 to 3)."""
    head = stream.read(8)
    if len(head) < 8 or head[:6] != NPY_MAGIC or head[6] not in (1, 2, 3):
        raise DamagedInputError(f"{where}: is not an .npy array of a known version")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise DamagedInputError(f"{where}: the header of {length} bytes is too long")
    dtype, fortran, shape = _parse_header(stream.read(length), where)
    declared = math.prod(shape) * dtype.itemsize
    held = size - 8 - width - length
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


def _parse_header(text: bytes, where: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
        kind, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise DamagedInputError(f"{where}: damaged header") from error
    if not isinstance(kind, str) or not re.fullmatch(r"[<>|=](b1|[iu][1248]|f[248])", kind):
        raise DamagedInputError(f"{where}: holds {show(kind)}, not plain numbers")
    if (
        not isinstance(fortran, bool)
        or not isinstance(shape, tuple)
        or len(shape) > 8
        or not all(type(side) is int and 0 <= side < 2**40 for side in shape)
        or math.prod(max(1, side) for side in shape) >= 2**59  # elements, if no side were zero
    ):
        raise DamagedInputError(f"{where}: damaged header")
    return np.dtype(kind), fortran, shape
