"""Checkpoints and their resume files: safetensors files that arcsm can vouch for.

Both are written with canonical metadata, so that equal content gives equal bytes, and are read
through one descriptor whose header was checked first (`arcsm_cli.io.header`): tensors go straight
from the file into their own memory, so reading takes no more than the tensors themselves and a
file that is replaced meanwhile cannot mix with its successor.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.header import Entry, Header, encode_header, read_header
from arcsm_cli.io.provenance import parse_chain
from arcsm_cli.io.streams import label, local_input, show

FORMAT = "arcsm-checkpoint"
RESUME_FORMAT = "arcsm-resume"
FORMAT_VERSION = 1
KINDS = ("ar-csm", "ar-mle", "vae")

_MAX_VALUE = 4 << 20  # characters of one metadata value
_BLOCK = 1 << 20  # elements looked at at a time

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# What a model is made of: weights, and masks and orders as buffers.
_MODEL_DTYPES = {"F16", "BF16", "F32", "F64", "BOOL", "U8", "I8", "I16", "I32", "I64"}


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk: enough to rebuild it, to know how far it was trained, and by what.

    Attributes:
        kind: one of `KINDS`.
        config: JSON object, enough to rebuild the model and its data scale.
        training: JSON object: step, epoch, last losses.
        provenance: one JSON object per command that made it, oldest first.
        tensors: by module name; finite, in a float, integer or bool type, on the CPU when read.
    """

    kind: str
    config: dict[str, Any]
    training: dict[str, Any]
    provenance: list[dict[str, Any]]
    tensors: dict[str, torch.Tensor]


def save_checkpoint(path: Path, ckpt: Checkpoint) -> None:
    """Write ``ckpt`` to ``path``, as it is: callers wrap it in `atomic.atomic_output`.

    Raises:
        ValueError: `load_checkpoint` would not take the result: an unknown kind, a type that no
            checkpoint holds, NaN or infinity in the tensors or in the JSON values.
        OSError: the system refused to write.
    """
    if ckpt.kind not in KINDS:
        raise ValueError(f"unknown kind of model {ckpt.kind!r}")
    for name, tensor in ckpt.tensors.items():
        if _NAMES.get(tensor.dtype) not in _MODEL_DTYPES:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, which no checkpoint holds")
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": ckpt.kind,
        "config": bounded_json.dump(ckpt.config),
        "training": bounded_json.dump(ckpt.training),
        "provenance": bounded_json.dump(ckpt.provenance),
    }
    _write(path, metadata, ckpt.tensors)


def load_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Read and check the checkpoint at ``source``, a path or ``-``.

    Memory beyond the tensors' own is bounded, whatever the file claims.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is of another kind, damaged, from a later version of the format, or
            holds NaN or infinity.
    """
    with local_input(source) as path, open(path, "rb") as file:
        name = label(source)
        header = _read(file, name, "checkpoint")
        for entry in header.entries:
            if entry.dtype not in _MODEL_DTYPES:
                raise DamagedInputError(
                    f"{name}: tensor {show(entry.name)} is {entry.dtype}, which no checkpoint holds"
                )
        kind = header.metadata.get("kind")
        if kind not in KINDS:
            raise DamagedInputError(
                f"{name}: holds a model of kind {show(kind)}, not one of {', '.join(KINDS)}"
            )
        config = _json_object(header, "config", name)
        training = _json_object(header, "training", name)
        provenance = parse_chain(header.metadata.get("provenance", ""), name)
        return Checkpoint(kind, config, training, provenance, _tensors(file, header, name))


def save_resume(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write what only resuming needs to ``path``, as it is; see `atomic.atomic_output`.

    Args:
        path: where to write.
        tensors: optimizer moments, generator states and the like, finite, of any type.
        state: a JSON object: counters and settings.

    Raises:
        ValueError: NaN or infinity in the tensors or the state.
        OSError: the system refused to write.
    """
    metadata = {
        "format": RESUME_FORMAT,
        "format_version": str(FORMAT_VERSION),
        "state": bounded_json.dump(state),
    }
    _write(path, metadata, tensors)


def load_resume(
    path: str | os.PathLike[str],
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read and check what `save_resume` wrote: the tensors and the state.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: as for `load_checkpoint`.
    """
    with local_input(path) as local, open(local, "rb") as file:
        name = label(path)
        header = _read(file, name, "resume")
        return _tensors(file, header, name), _json_object(header, "state", name)


def _read(file: BufferedReader, name: str, expected: Literal["checkpoint", "resume"]) -> Header:
    header = read_header(file, name)
    called = {FORMAT: "a checkpoint", RESUME_FORMAT: "a resume file"}
    wanted = FORMAT if expected == "checkpoint" else RESUME_FORMAT
    found = header.metadata.get("format")
    if found != wanted:
        what = called.get(found or "", "a safetensors file that arcsm did not write")
        raise DamagedInputError(f"{name}: is {what}, where {called[wanted]} is expected")
    version = header.metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9 and int(version) >= 1):
        raise DamagedInputError(f"{name}: its format_version is {show(version)}, not a number")
    if int(version) > FORMAT_VERSION:
        raise DamagedInputError(
            f"{name}: has format_version {int(version)}, newer than the {FORMAT_VERSION} that this "
            "arcsm reads: upgrade arcsm"
        )
    return header


def _json_object(header: Header, key: str, name: str) -> dict[str, Any]:
    try:
        value = bounded_json.parse(header.metadata.get(key, ""), size=_MAX_VALUE)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its {key} {error}") from error
    if not isinstance(value, dict):
        raise DamagedInputError(f"{name}: its {key} is not a JSON object")
    return value


def _write(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    for key, value in metadata.items():
        if len(value) > _MAX_VALUE:
            raise ValueError(f"{key} takes {len(value)} characters, more than {_MAX_VALUE}")
    entries = []
    position = 0
    # Wide types first keeps every tensor aligned for readers that map the file.
    for name in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key)):
        tensor = tensors[name]
        if not _finite(tensor):
            raise ValueError(f"tensor {name!r} holds NaN or infinite values")
        size = tensor.numel() * tensor.element_size()
        dtype = _NAMES[tensor.dtype]
        entries.append(Entry(name, dtype, tuple(tensor.shape), position, size))
        position += size
    with open(path, "wb") as file:
        file.write(encode_header(metadata, entries))
        for entry in entries:
            file.write(_bytes(tensors[entry.name].detach().cpu().contiguous()))


def _tensors(file: BufferedReader, header: Header, name: str) -> dict[str, torch.Tensor]:
    total, memory = sum(entry.size for entry in header.entries), _memory()
    if total > memory:  # a file full of holes, which takes no room on its disk
        raise DamagedInputError(
            f"{name}: its tensors take {total} bytes, more than this machine's memory of {memory}"
        )
    tensors = {}
    for entry in header.entries:
        tensor = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        view = _bytes(tensor)
        file.seek(entry.start)
        if file.readinto(view) != entry.size:
            raise DamagedInputError(f"{name}: was truncated while it was read")
        if entry.dtype == "BOOL" and not _boolean(tensor):
            raise DamagedInputError(f"{name}: tensor {show(entry.name)} is not of true and false")
        if not _finite(tensor):
            raise DamagedInputError(
                f"{name}: tensor {show(entry.name)} holds NaN or infinite values"
            )
        tensors[entry.name] = tensor
    return tensors


def _memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not say
        return 1 << 40


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, shared, not copied."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    wide = torch.float32 if tensor.element_size() == 1 else tensor.dtype
    return all(bool(torch.isfinite(block.to(wide)).all()) for block in _blocks(tensor.detach()))


def _boolean(tensor: torch.Tensor) -> bool:
    # A byte other than 0 and 1 in a bool tensor is undefined behaviour.
    return not any(bool((block > 1).any()) for block in _blocks(tensor.view(torch.uint8)))


def _blocks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    # Looked at block by block, since a mask of a whole tensor would take memory of its own.
    flat = tensor.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, flat.numel(), _BLOCK))
