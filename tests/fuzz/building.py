"""HDF5 files made from arbitrary bytes: each byte is a choice of what to build next.

The files are sound HDF5, so that they get past the library, and hostile to whoever trusts them:
links, types, shapes, filters, layouts and attributes of all kinds in any place.
"""

import io
from collections.abc import Sequence
from typing import Any, TypeVar

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

T = TypeVar("T")

_NAMES = ("samples", "clean", "corrupted", "labels", "statistics", "statistics/nll",
          "statistics/a", "other", "statistics/\udcff", "\x1b[31m", "losses", "losses/step",
          "losses/method")  # fmt: skip
_TYPES = (h5t.IEEE_F32LE, h5t.IEEE_F32BE, h5t.IEEE_F64LE, h5t.STD_I64LE, h5t.STD_U8LE,
          h5t.STD_I32BE, h5t.C_S1, h5t.STD_REF_OBJ)  # fmt: skip
_SHAPES = ((4, 2), (4, 2), (4,), (4, 1), (4, 3), (0, 2), (4, 0), (), (1,) * 9, (4, 1, 2, 2),
           (1 << 40, 2), (4, 1 << 40), (1 << 62,), (1 << 31, 1 << 31),
           (1 << 20, 1 << 20))  # fmt: skip
_TEXTS = ("arcsm-samples", "arcsm-comparison", "[]", "{}", "", "[" * 100, '[{"a":1e999}]', "[1]",
          '[{"command":"sample"}]', "\x1b[31m", "NaN")  # fmt: skip


class Choices:
    """Bytes, used up one after the other; zeros when there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, count: int) -> int:
        """A number from 0 to count - 1, of at most 256."""
        return next(self._data, 0) % count

    def of(self, options: Sequence[T]) -> T:
        """One of the options; the first where nothing is left to choose with."""
        return options[self.below(len(options))]


def hdf5(data: bytes) -> bytes:
    """Build an HDF5 file as the bytes say; without any, a sound sample file."""
    choices = Choices(data)
    libver = choices.of(("v110", "earliest", "latest"))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        values: dict[str, Any] = {"format": "arcsm-samples", "format_version": 1}
        for key, value in (values | {"provenance": "[]"}).items():
            _attribute(file, key, value, choices)
        file.create_dataset("samples", data=np.zeros((4, 2), np.float32), fletcher32=True,
                            chunks=(2, 2))  # fmt: skip
        for _ in range(choices.below(6)):
            try:
                _add(file, choices)
            except (ValueError, OSError, RuntimeError, KeyError, TypeError, OverflowError):
                continue  # what h5py does not build is no file to read
    return buffer.getvalue()


def _attribute(file: Any, key: str, value: Any, choices: Choices) -> None:
    match choices.below(12):
        case 7:
            value = choices.of(_TEXTS)
        case 8:
            value = choices.of((1, 2, -1, 1.5, [1, 1], h5py.Empty("i8"), np.uint64(1 << 63)))
        case 9:
            value = h5py.Empty("S1")
        case 10:
            value = np.bytes_(choices.of(_TEXTS).encode())
        case 11:
            return
    file.attrs[key] = value


def _add(file: Any, choices: Choices) -> None:
    name = choices.of(_NAMES)
    encoded = name.encode("utf-8", "surrogateescape")
    match choices.below(10):
        case 0:
            del file[name]
        case 1:
            file[name] = h5py.SoftLink(choices.of(("/samples", "/", "missing", name)))
        case 2:
            file[name] = h5py.ExternalLink(choices.of(("o.h5", "/etc/passwd")), "/samples")
        case 3:
            file[name] = file[choices.of(("/", "samples"))]
        case 4:
            file.create_group(name + choices.of(("", "/a", "/a/b/c" * 20)))
        case 5:
            layout = h5py.VirtualLayout((4, 2), np.float32)
            layout[:] = h5py.VirtualSource(choices.of((".", "o.h5")), "samples", (4, 2))
            file.create_virtual_dataset(name, layout)
        case 6:
            size = choices.of((32, 1, 1 << 40))
            file.create_dataset(name, (4, 2), np.float32, external=[("/etc/passwd", 0, size)])
        case 7:
            kind = choices.of((np.float32, np.int64, np.float64, np.uint8))
            value = choices.of((0.0, 1.0, 7.0, np.nan, np.inf))
            shape = choices.of(_SHAPES[:10])
            with np.errstate(invalid="ignore"):
                array = np.full(shape, value).astype(kind)
            file.create_dataset(name, data=array)
        case _:
            _declare(file, encoded, choices)


def _declare(file: Any, name: bytes, choices: Choices) -> None:
    """A dataset of any type, shape and layout, without data."""
    properties = h5p.create(h5p.DATASET_CREATE)
    shape = choices.of(_SHAPES)
    if choices.below(2) and shape:
        chunk = choices.of(((1,) * len(shape), tuple(min(s, 1 << 12) or 1 for s in shape)))
        properties.set_chunk(chunk)
        for _ in range(choices.below(3)):
            match choices.below(5):
                case 0:
                    properties.set_deflate(choices.below(10))
                case 1:
                    properties.set_shuffle()
                case 2:
                    properties.set_fletcher32()
                case 3:
                    properties.set_filter(choices.of((32_000, 32_015, 4, 5, 6)), 1, (3,))
                case _:
                    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    elif choices.below(4) == 3:
        properties.set_layout(h5d.COMPACT)
    space = h5s.create_simple(shape) if choices.below(8) else h5s.create(h5s.NULL)
    kind = choices.of(_TYPES)
    file.require_group("statistics")
    h5d.create(file.id, name, kind, space, properties)
