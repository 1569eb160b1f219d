"""Checkpoints and their resume files: safetensors files that arcsm can vouch for.

Tensors go straight from the file into their own memory, so reading takes no more than the tensors
themselves, and a file that is replaced meanwhile cannot mix with its successor
(`arcsm_cli.io.tensor_file`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.provenance import parse_chain
from arcsm_cli.io.streams import label, local_input, show
from arcsm_cli.io.tensor_file import check_format, open_tensors, save_tensors

FORMAT_VERSION = 2  # of both; files of version 1 say what they are in another place
KINDS = ("ar-csm", "ar-mle", "vae")

_MAX_VALUE = 4 << 20  # characters of one metadata value
_BLOCK = 1 << 20  # elements looked at at a time

# What a model is made of: weights, and masks and orders as buffers.
_MODEL_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


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
        if tensor.dtype not in _MODEL_DTYPES:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, which no checkpoint holds")
    metadata = {
        "kind": ckpt.kind,
        "config": bounded_json.dump(ckpt.config),
        "training": bounded_json.dump(ckpt.training),
        "provenance": bounded_json.dump(ckpt.provenance),
    }
    _write(path, "checkpoint", metadata, ckpt.tensors)


def load_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Read and check the checkpoint at ``source``, a path or ``-``.

    Memory beyond the tensors' own is bounded, whatever the file claims.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is of another kind, damaged, from a later version of the format, or
            holds NaN or infinity.
    """
    name = label(source)
    with _opened(source, name) as opened:
        metadata = _metadata(opened, "checkpoint", name)
        kind = metadata.get("kind")
        if kind not in KINDS:
            raise DamagedInputError(
                f"{name}: holds a model of kind {show(kind)}, not one of {', '.join(KINDS)}"
            )
        config = _json_object(metadata, "config", name)
        training = _json_object(metadata, "training", name)
        provenance = parse_chain(metadata.get("provenance", ""), name)
        tensors = _tensors(opened, name, _MODEL_DTYPES)
        return Checkpoint(kind, config, training, provenance, tensors)


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
    _write(path, "resume", {"state": bounded_json.dump(state)}, tensors)


def load_resume(
    path: str | os.PathLike[str],
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read and check what `save_resume` wrote: the tensors and the state.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: as for `load_checkpoint`.
    """
    name = label(path)
    with _opened(path, name) as opened:
        state = _json_object(_metadata(opened, "resume", name), "state", name)
        return _tensors(opened, name), state


def load_resume_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check the state alone of what `save_resume` wrote; see `load_resume`."""
    name = label(path)
    with _opened(path, name) as opened:
        return _json_object(_metadata(opened, "resume", name), "state", name)


@contextmanager
def _opened(source: str | os.PathLike[str], name: str) -> Iterator[Any]:
    with local_input(source) as path, open(path, "rb") as file:
        size, memory = os.fstat(file.fileno()).st_size, _memory()
        if size > memory:  # a file full of holes, which takes no room on its disk
            raise DamagedInputError(
                f"{name}: has {size} bytes, more than this machine's memory of {memory}"
            )
        with open_tensors(file, name, "pt") as opened:
            yield opened


def _metadata(opened: Any, wanted: str, name: str) -> dict[str, str]:
    metadata: dict[str, str] = opened.metadata() or {}
    check_format(metadata, wanted, FORMAT_VERSION, name)
    return metadata


def _json_object(metadata: dict[str, str], key: str, name: str) -> dict[str, Any]:
    try:
        value = bounded_json.parse(metadata.get(key, ""), size=_MAX_VALUE)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its {key} {error}") from error
    if not isinstance(value, dict):
        raise DamagedInputError(f"{name}: its {key} is not a JSON object")
    return value


def _write(
    path: Path, form: str, metadata: dict[str, str], tensors: dict[str, torch.Tensor]
) -> None:
    for key, value in metadata.items():
        if len(value) > _MAX_VALUE:
            raise ValueError(f"{key} takes {len(value)} characters, more than {_MAX_VALUE}")
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise ValueError(f"tensor {name!r} holds NaN or infinite values")
    save_tensors(path, form, FORMAT_VERSION, metadata, tensors)


def _tensors(
    opened: Any, name: str, allowed: set[torch.dtype] | None = None
) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for key in opened.offset_keys():
        tensor: torch.Tensor = opened.get_tensor(key)
        if allowed is not None and tensor.dtype not in allowed:
            raise DamagedInputError(
                f"{name}: tensor {show(key)} is {tensor.dtype}, which no checkpoint holds"
            )
        if tensor.dtype == torch.bool and not _boolean(tensor):
            raise DamagedInputError(f"{name}: tensor {show(key)} is not of true and false")
        if not _finite(tensor):
            raise DamagedInputError(f"{name}: tensor {show(key)} holds NaN or infinite values")
        tensors[key] = tensor
    return tensors


def _memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not say
        return 1 << 40


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
