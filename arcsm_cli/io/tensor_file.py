"""Safetensors files, written and read by the library of the format.

The library checks that a header is sound, and that the tensors it describes fill the file without
gaps. What it leaves open is settled here. On reading: how long a header may be, how many tensors
it may name, and that none of its keys is repeated. On writing: the order of the metadata, so that
equal content gives equal bytes.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.streams import describe, show

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 16 << 20  # bytes
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8

CALLED = {
    "checkpoint": "a checkpoint",
    "resume": "a resume file",
    "reference": "a file of typical statistics",
}
"""What messages call a file of each format."""

# What the library and PyTorch raise for a header, or a tensor, that cannot be.
_COMPLAINTS = (SafetensorError, RuntimeError, TypeError, ValueError, KeyError, OverflowError)


@contextmanager
def open_tensors(file: IO[bytes], name: str, framework: Literal["numpy", "pt"]) -> Iterator[Any]:
    """Yield `safetensors.safe_open` of a file whose header was checked.

    Every tensor is known to lie within the file then, so that what they take in memory is bounded
    by its size. With ``"numpy"`` PyTorch is not loaded.

    Arguments:
        file: Open for reading in binary, at its beginning.
        name: What messages call the file.
        framework: What its tensors become.

    Raises:
        DamagedInputError: It is not a safetensors file, truncated, or inconsistent; also where the
            library finds so in the body of the context.
    """
    check_header(file, name)
    with complaints(name):
        # By its descriptor, since another file may have the name by now; and without mapping the
        # tensors to memory, where a file that is cut off meanwhile would kill the process.
        opened: Any = safe_open  # the library declares no types
        with opened(f"/dev/fd/{file.fileno()}", framework, backend="pread") as tensors:
            yield tensors


def check_header(file: IO[bytes], name: str) -> None:
    """Check what the library leaves open of the header of a safetensors file.

    Arguments:
        file: Open for reading in binary, at its beginning.
        name: What messages call the file.

    Raises:
        DamagedInputError: It is no safetensors file, or its header is too large or repeats a key.
    """
    head = file.read(16)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":
        raise DamagedInputError(f"{name}: is {describe(head)}, not a safetensors file")
    if length > MAX_HEADER:
        raise DamagedInputError(
            f"{name}: claims a header of {length} bytes, more than the {MAX_HEADER} allowed"
        )
    file.seek(8)
    try:
        text = file.read(length).decode("utf-8", "replace")  # the library refuses what is none
        content = bounded_json.parse(text, size=MAX_HEADER, depth=8, items=4 * MAX_TENSORS)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its header {error}") from error
    if len(content) > MAX_TENSORS + 1:
        raise DamagedInputError(f"{name}: holds more than {MAX_TENSORS} tensors")
    for key, entry in content.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if isinstance(shape, list) and len(shape) > MAX_DIMENSIONS:
            raise DamagedInputError(
                f"{name}: tensor {show(key)} has more than {MAX_DIMENSIONS} axes"
            )


@contextmanager
def complaints(name: str) -> Iterator[None]:
    """Turn what the library finds wrong with a file into one kind of error."""
    try:
        yield
    except _COMPLAINTS as error:
        raise DamagedInputError(
            f"{name}: is a damaged safetensors file: {show(str(error), 160)}"
        ) from error


def format_of(metadata: Mapping[str, str]) -> str | None:
    """Return one of `CALLED`, or None for a file that arcsm did not write."""
    # It stood under "format" before, where other readers look for the framework.
    found = metadata.get("arcsm_format", metadata.get("format", "").removeprefix("arcsm-"))
    return found if found in CALLED else None


def check_format(metadata: Mapping[str, str], wanted: str, newest: int, name: str) -> int:
    """Return the version of a file that must be of a format of ours.

    Arguments:
        metadata: The file's.
        wanted: One of `CALLED`.
        newest: The latest version that can be read.
        name: What messages call the file.

    Raises:
        DamagedInputError: It is of another format, or of a later version.
    """
    found = format_of(metadata)
    if found != wanted:
        what = CALLED.get(found or "", "a safetensors file that arcsm did not write")
        raise DamagedInputError(f"{name}: is {what}, where {CALLED[wanted]} is expected")
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9 and int(version) >= 1):
        raise DamagedInputError(f"{name}: its format_version is {show(version)}, not a number")
    if int(version) > newest:
        raise DamagedInputError(
            f"{name}: has format_version {int(version)}, newer than the {newest} that this "
            "arcsm reads: upgrade arcsm"
        )
    return int(version)


def save_tensors(
    path: Path, form: str, version: int, metadata: dict[str, str], tensors: Mapping[str, "Tensor"]
) -> None:
    """Write a safetensors file of a format of ours; equal content gives equal bytes.

    The library puts the file together in memory, which takes as much as the tensors, and twice
    that for a moment. It would write it, too, but to a temporary file of its own, which stays if
    the process is killed.

    Arguments:
        path: Where to write; callers wrap it in `atomic.atomic_output`.
        form: One of `CALLED`.
        version: Of that format.
        metadata: More of it.
        tensors: By name, of any device and layout in memory.

    Raises:
        ValueError: The header would be too large to be read again.
        OSError: The system refused to write.
    """
    from safetensors.torch import save

    # Other readers look for the framework under "format".
    ours = {"format": "pt", "arcsm_format": form, "format_version": str(version)} | metadata
    content = memoryview(save(_apart(tensors), ours))
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes is more than the {MAX_HEADER} allowed")
    header = json.loads(bytes(content[8 : 8 + length]))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
    if len(text) != length:
        raise RuntimeError("the header changed its length in being put in order")
    with open(path, "wb") as file:
        for part in (content[:8], text, content[8 + length :]):
            file.write(part)


def _apart(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return tensors on the CPU that are contiguous and share no memory, as the library asks."""
    found: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(memory.data_ptr())
        found[name] = plain
    return found
