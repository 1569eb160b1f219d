"""Which HDF5 objects a sample file may consist of, decided before any of their data is read.

HDF5 can point outside the file, run plugins, and declare far more data than it holds. A sample
file needs none of that: datasets of plain numbers, linked directly, wholly present in the file.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
from h5py import h5a, h5d, h5l, h5o, h5s, h5t, h5z

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.streams import show

MAX_STATISTICS = 1024
MAX_DIMENSIONS = 8
MAX_ROWS = 1 << 40
MAX_EXAMPLE = 1 << 30  # bytes of one example
MAX_RATIO = 200  # of compression, beyond which a file is taken for a bomb ...
FREE_SIZE = 64 << 20  # ... unless it unpacks to no more than this many bytes
OVERHEAD = 64 << 20  # bytes of a file that are no dataset's data, beyond as many as the data take

_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_LZF}
_FLOATS = (h5t.IEEE_F32LE, h5t.IEEE_F32BE)
_DOUBLES = (h5t.IEEE_F64LE, h5t.IEEE_F64BE)
_INTEGERS = (
    *(h5t.STD_I8LE, h5t.STD_I16LE, h5t.STD_I32LE, h5t.STD_I64LE),
    *(h5t.STD_U8LE, h5t.STD_U16LE, h5t.STD_U32LE),
    *(h5t.STD_I16BE, h5t.STD_I32BE, h5t.STD_I64BE, h5t.STD_U16BE, h5t.STD_U32BE),
)


@contextmanager
def complaints(name: str) -> Iterator[None]:
    """Turn what h5py raises into one kind of error: whatever fits the C library's complaint."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedInputError(f"{name}: is damaged HDF5: {show(str(error), 100)}") from error


@dataclass(frozen=True)
class Found:
    """A checked dataset: its full shape and the bytes it takes in the file."""

    dataset: Any
    shape: tuple[int, ...]
    stored: int


def members(group: Any, allowed: set[str] | None, limit: int, name: str) -> list[str]:
    """Names of the members of ``group``, sorted: hard links only, at most ``limit``.

    Args:
        group: an `h5py.Group`.
        allowed: the names that may occur; None for any.
        limit: most members allowed.
        name: what messages call the file.

    Raises:
        DamagedInputError: a link leads elsewhere, or there is something that may not occur.
    """
    if group.id.get_num_objs() > limit:
        raise DamagedInputError(f"{name}: holds more than {limit} objects in {show(group.name)}")
    # h5py gives names that are not UTF-8 as bytes.
    found = sorted(_decoded(member) for member in group)
    for member in found:
        kind = group.id.links.get_info(_encoded(member)).type
        if kind != h5l.TYPE_HARD:
            called = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}
            what = called.get(kind, "a link of an unknown kind")
            raise DamagedInputError(f"{name}: {show(member)} is {what}, which arcsm never follows")
        if allowed is not None and member not in allowed:
            raise DamagedInputError(f"{name}: holds {show(member)}, which no sample file does")
    return found


def is_group(group: Any, member: str) -> bool:
    """Whether the member of that name is a group."""
    return bool(h5o.get_info(group.id, _encoded(member)).type == h5o.TYPE_GROUP)


def dataset(
    group: Any, member: str, title: str, file_size: int, name: str, *, wide: bool = False
) -> Found:
    """Check one member of ``group`` that must be a dataset of numbers.

    Args:
        group: an `h5py.Group`.
        member: name within the group; a hard link.
        title: name within the file; ``labels`` are integers, all others float32, or if ``wide``
            float64.
        file_size: bytes of the whole file.
        name: what messages call the file.

    Raises:
        DamagedInputError: it is no dataset, of another type, stored outside the file, incomplete
            or larger than what the file can hold.
    """
    what = f"{name}: dataset {show(title)}"
    key = _encoded(member)
    if h5o.get_info(group.id, key).type != h5o.TYPE_DATASET:
        raise DamagedInputError(f"{name}: {show(title)} is not a dataset")
    found = h5d.open(group.id, key)
    integer = title == "labels"
    kind = found.get_type()
    known = _INTEGERS if integer else (*_FLOATS, *_DOUBLES) if wide else _FLOATS
    if not any(kind.equal(candidate) for candidate in known):
        raise DamagedInputError(f"{what} is not of {'integers' if integer else 'float32'}")
    return _checked(found, file_size, what)


def numbers(group: Any, member: str, title: str, file_size: int, name: str) -> Found:
    """Check one member of ``group`` that must be a dataset of numbers of any type.

    Args:
        group, member, title, file_size, name: as of `dataset`.

    Raises:
        DamagedInputError: as of `dataset`.
    """
    what = f"{name}: dataset {show(title)}"
    found = h5d.open(group.id, _encoded(member))
    if not is_plain(found):
        raise DamagedInputError(f"{what} holds no plain numbers")
    return _checked(found, file_size, what)


def unpacked_rows(found: Found) -> tuple[int, int]:
    """Return how many rows of a dataset are unpacked to read one, and their bytes in memory.

    (1, 0) where nothing is compressed, and any rows can be read by themselves.
    """
    dataset = found.dataset
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        return 1, 0
    rows = min(dataset.chunks[0], max(1, found.shape[0]))
    sides = zip(found.shape[1:], dataset.chunks[1:], strict=True)
    across = math.prod(-(-length // step) * step for length, step in sides)
    return rows, rows * across * dataset.dtype.itemsize


def is_plain(found: Any) -> bool:
    """Return whether a dataset (`h5d.DatasetID`) has axes and holds numbers of at most 64 bits."""
    kind = found.get_type()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM) or kind.get_size() > 8:
        return False
    simple = found.get_space().get_simple_extent_type() == h5s.SIMPLE
    # Of the enumerations, only those that h5py makes of booleans are numbers.
    return simple and found.dtype.kind in ("b" if kind.get_class() == h5t.ENUM else "iuf")


def _checked(found: Any, file_size: int, what: str) -> Found:
    kind = found.get_type()
    space = found.get_space()
    if space.get_simple_extent_type() != h5s.SIMPLE:
        raise DamagedInputError(f"{what} has no axes")
    shape = tuple(int(length) for length in found.shape)
    if len(shape) > MAX_DIMENSIONS or shape[0] > MAX_ROWS:
        raise DamagedInputError(f"{what} has an oversized shape")
    itemsize = kind.get_size()
    if math.prod(shape[1:]) * itemsize > MAX_EXAMPLE:
        raise DamagedInputError(f"{what} has examples of more than {MAX_EXAMPLE} bytes")
    stored = _check_storage(found, shape, itemsize, file_size, what)
    return Found(h5py.Dataset(found), shape, stored)


def _check_storage(
    found: Any, shape: tuple[int, ...], itemsize: int, file_size: int, what: str
) -> int:
    properties = found.get_create_plist()
    layout = properties.get_layout()
    if layout == h5d.VIRTUAL:
        raise DamagedInputError(f"{what} is virtual: its data lie in other files")
    if properties.get_external_count():
        raise DamagedInputError(f"{what} is stored in another file")
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if not filters <= _FILTERS:
        raise DamagedInputError(f"{what} is compressed by a filter that arcsm does not use")
    size = math.prod(shape) * itemsize
    stored = int(found.get_storage_size())
    incomplete = DamagedInputError(
        f"{what} is incomplete: it declares {size} bytes and the file holds {stored} of them"
    )
    if stored > file_size:
        raise incomplete
    if layout != h5d.CHUNKED:
        if size > stored or (found.get_offset() or 0) + stored > file_size:
            raise incomplete
        return stored
    chunk = properties.get_chunk()
    chunks = math.prod(-(-length // step) for length, step in zip(shape, chunk, strict=True))
    if filters <= {h5z.FILTER_FLETCHER32} and chunks * math.prod(chunk) * itemsize > stored:
        raise incomplete
    if size > FREE_SIZE and size > MAX_RATIO * stored:
        raise DamagedInputError(
            f"{what} claims to unpack {stored} bytes to {size}, more than {MAX_RATIO} times as many"
        )
    # A chunk that was never written would read as zeros.
    if size and found.get_num_chunks() < chunks:
        raise incomplete
    return stored


def text_attribute(file: Any, key: str, name: str) -> str | None:
    """The root attribute ``key`` as text, or None if there is none.

    Raises:
        DamagedInputError: it is not one text.
    """
    value = _attribute(file, key, h5t.STRING, name)
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value)


def integer_attribute(file: Any, key: str, name: str) -> int | None:
    """The root attribute ``key`` as an integer, or None if there is none.

    Raises:
        DamagedInputError: it is not one integer.
    """
    value = _attribute(file, key, h5t.INTEGER, name)
    return None if value is None else int(value)


def _attribute(file: Any, key: str, kind: int, name: str) -> Any:
    if not h5a.exists(file.id, key.encode()):
        return None
    attribute = h5a.open(file.id, key.encode())
    space = attribute.get_space()
    if (
        attribute.get_type().get_class() != kind
        or space.get_simple_extent_type() == h5s.NULL
        or space.get_simple_extent_npoints() != 1
        or attribute.shape != ()
    ):
        raise DamagedInputError(f"{name}: its attribute {key} is not a single value of its type")
    return file.attrs[key]


def _decoded(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
