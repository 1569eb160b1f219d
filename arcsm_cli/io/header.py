"""The header of a safetensors file, read with every claim checked against the file itself.

A file is eight bytes of length (little-endian), a JSON header of that length, and the tensors'
bytes. The header gives each tensor's type, shape and place; a sound file has neither gaps nor
overlaps nor anything left over.
"""

import math
import os
from dataclasses import dataclass
from typing import IO, Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.streams import describe, show

MAX_HEADER = 16 << 20  # bytes
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8

SIZES = {  # bytes per element of the types read here, by their name in the header
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: ``size`` bytes from byte ``start`` of the file on."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """A checked header: the metadata and the tensors in the order in which the file has them."""

    metadata: dict[str, str]
    entries: list[Entry]


def read_header(file: IO[bytes], name: str) -> Header:
    """Read and check the header of an open safetensors file.

    At most `MAX_HEADER` bytes are read, whatever the file claims. Every tensor's bytes are known
    to lie within the file afterwards, so that what they take in memory is bounded by its size.

    Args:
        file: open for reading in binary, at its beginning.
        name: what messages call the file.

    Raises:
        DamagedInputError: not a safetensors file, truncated, or inconsistent.
    """
    total = os.fstat(file.fileno()).st_size
    head = file.read(16)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":
        raise DamagedInputError(f"{name}: is {describe(head)}, not a safetensors file")
    if length > MAX_HEADER:
        raise DamagedInputError(
            f"{name}: claims a header of {length} bytes, more than the {MAX_HEADER} allowed"
        )
    if 8 + length > total:
        raise DamagedInputError(
            f"{name}: is truncated: {total} bytes, shorter than its header of {8 + length}"
        )
    file.seek(8)
    try:
        text = file.read(length).decode("utf-8")
        content = bounded_json.parse(text, size=MAX_HEADER, depth=8, items=4 * MAX_TENSORS)
    except UnicodeDecodeError as error:
        raise DamagedInputError(f"{name}: its header is not UTF-8 text") from error
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its header {error}") from error
    if not isinstance(content, dict):
        raise DamagedInputError(f"{name}: its header is not a JSON object")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise DamagedInputError(f"{name}: its metadata does not map names to texts")
    if len(content) > MAX_TENSORS:
        raise DamagedInputError(f"{name}: holds more than {MAX_TENSORS} tensors")
    entries = [_entry(key, value, 8 + length, name) for key, value in content.items()]
    entries.sort(key=lambda entry: (entry.start, entry.size))
    _check_layout(entries, 8 + length, total, name)
    return Header(metadata, entries)


def encode_header(metadata: dict[str, str], entries: list[Entry]) -> bytes:
    """The bytes that precede the tensors; equal arguments give equal bytes.

    The entries' ``start`` counts from the first byte after the header. Spaces pad the header to a
    multiple of eight bytes, as the format asks for.
    """
    content: dict[str, Any] = {
        entry.name: {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.start + entry.size],
        }
        for entry in entries
    }
    if "__metadata__" in content:
        raise ValueError("no tensor may be named __metadata__")
    content["__metadata__"] = metadata
    text = bounded_json.dump(content).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"a header of {len(text)} bytes is more than the {MAX_HEADER} allowed")
    return len(text).to_bytes(8, "little") + text


def _entry(key: str, value: object, offset: int, name: str) -> Entry:
    what = f"{name}: tensor {show(key)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise DamagedInputError(f"{what} is not described by type, shape and offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise DamagedInputError(f"{what} has the unknown type {show(dtype)}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise DamagedInputError(f"{what} has an impossible shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise DamagedInputError(f"{what} has impossible offsets")
    start, stop = offsets
    # Without its zeros too: steps from one axis to the next must fit 64 bits even if nothing is
    # there.
    if math.prod(max(1, side) for side in shape) * SIZES[dtype] >= 1 << 63:
        raise DamagedInputError(f"{what} has an impossible shape")
    if math.prod(shape) * SIZES[dtype] != stop - start:
        raise DamagedInputError(f"{what} has {stop - start} bytes, which its shape contradicts")
    return Entry(key, dtype, tuple(shape), offset + start, stop - start)


def _naturals(values: object) -> bool:
    # No size in a file has more than 64 bits; bool is an int to Python but not to the format.
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _check_layout(entries: list[Entry], begin: int, total: int, name: str) -> None:
    position = begin
    for entry in entries:
        if entry.start != position:
            relation = "overlaps another" if entry.start < position else "follows a gap"
            raise DamagedInputError(f"{name}: tensor {show(entry.name)} {relation}")
        position += entry.size
    if position > total:
        raise DamagedInputError(
            f"{name}: is truncated: {total} bytes, where its header asks for {position}"
        )
    if position < total:
        raise DamagedInputError(f"{name}: has {total - position} bytes too many after its tensors")
