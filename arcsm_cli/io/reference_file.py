"""``MODEL.safetensors.reference``: what a model's statistics are like on its training data.

A safetensors file whose metadata say everything but the vectors of single training examples, its
one tensor. It is read with the same suspicion as a checkpoint: bounded, checked, nothing else than
numbers and texts.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.streams import label, local_input
from arcsm_cli.io.tensor_file import check_format, open_tensors, save_tensors

# Files of version 2 say what they are in another place; those of version 3 hold no vectors.
FORMAT_VERSION = 4
_LACKING = {1: {"multiscale"}}  # what files of a version do not have yet

MAX_VECTORS = 10_000
"""How many training examples' vectors are kept, at most."""

_MAX_TEXT = 1 << 20
_MAX_STATISTICS = 64
_MAX_LEVELS = 16
_MAX_FIGURES = 64
_MAX_BYTES = _MAX_TEXT + 4 * MAX_VECTORS * _MAX_FIGURES
_ROUNDING = 1e-6
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Typical:
    """Median of a statistic over training data, and the median distance from it."""

    median: float
    mad: float


@dataclass(frozen=True)
class Spread:
    """What the vectors of the multiscale statistic are like over training data.

    Attributes:
        levels: the noise levels whose scores they are of.
        mean: (F,).
        covariance: (F, F), its rows.
    """

    levels: tuple[float, ...]
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Reference:
    """Typical values of a model's statistics.

    Attributes:
        checkpoint: SHA-256 of the model's file, for which alone they hold.
        data: the specification of the training data.
        digest: SHA-256 of these.
        limit: how many of them were asked for.
        count: how many were used.
        statistics: by name.
        multiscale: None where it was not asked for.
        vectors: those that it is of, float32 (N, F), of the first `MAX_VECTORS` examples; None
            where they are not known.
    """

    checkpoint: str
    data: str
    digest: str
    limit: int
    count: int
    statistics: dict[str, Typical]
    multiscale: Spread | None = None
    vectors: NDArray[np.float32] | None = field(default=None, compare=False)


def reference_path(model: str) -> str:
    """Return where the reference of the checkpoint at ``model`` lies.

    Example:
        >>> reference_path("m.safetensors")
        'm.safetensors.reference'
    """
    return f"{model}.reference"


def save_reference(path: str, reference: Reference) -> None:
    """Write ``reference`` to ``path``, whole or not at all, in place of an earlier one.

    Raises:
        OutputError: the system refused to write.
        ValueError: NaN or infinity among the numbers.
    """
    import torch

    values = asdict(replace(reference, vectors=None))
    del values["vectors"]
    content = {"reference": bounded_json.dump(values)}
    known = reference.vectors
    tensors = {} if known is None else {"vectors": torch.from_numpy(known)}
    with atomic_output(path, force=True) as target:
        save_tensors(Path(target), "reference", FORMAT_VERSION, content, tensors)


def load_reference_file(path: str | os.PathLike[str]) -> Reference:
    """Read and check what `save_reference` wrote.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is of another kind, damaged, or from a later version of the format.
    """
    name = label(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise DamagedInputError(f"{name}: is not a regular file")
    with local_input(path) as local, open(local, "rb") as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise DamagedInputError(f"{name}: is longer than the {_MAX_BYTES} bytes of a reference")
        with open_tensors(file, name, "numpy") as opened:
            metadata = opened.metadata() or {}
            vectors = _vectors(opened, name)
    version = check_format(metadata, "reference", FORMAT_VERSION, name)
    try:
        content = bounded_json.parse(metadata.get("reference", ""), size=_MAX_TEXT, items=1000)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its reference {error}") from error
    fields = Reference.__annotations__.keys() - {"vectors"} - _LACKING.get(version, set())
    found = _checked(content, name, fields)
    if vectors is None:
        return found
    spread = found.multiscale
    if spread is None or vectors.shape[1] != len(spread.mean):
        raise DamagedInputError(f"{name}: its vectors are not those of its reference")
    return replace(found, vectors=vectors)


def _vectors(opened: Any, name: str) -> NDArray[np.float32] | None:
    """Return the one tensor that a reference may have."""
    names = set(opened.keys())
    if not names:
        return None
    place = opened.get_slice("vectors") if names == {"vectors"} else None
    shape = [] if place is None else place.get_shape()
    if place is None or place.get_dtype() != "F32" or len(shape) != 2 or min(shape) < 1:
        raise DamagedInputError(f"{name}: holds tensors that a reference does not have")
    if shape[0] > MAX_VECTORS or shape[1] > _MAX_FIGURES:
        raise DamagedInputError(f"{name}: holds more vectors than a reference may")
    vectors: NDArray[np.float32] = opened.get_tensor("vectors")
    if not np.isfinite(vectors).all():
        raise DamagedInputError(f"{name}: its vectors are not finite")
    return vectors


def _checked(content: Any, name: str, fields: set[str]) -> Reference:
    if not isinstance(content, dict) or content.keys() != fields:
        raise DamagedInputError(f"{name}: its reference does not have the fields of one")
    statistics = content["statistics"]
    sound = (
        all(isinstance(content[k], str) for k in ("checkpoint", "data", "digest"))
        and all(_DIGEST.fullmatch(content[k]) for k in ("checkpoint", "digest"))
        and all(type(content[k]) is int and 0 < content[k] < 1 << 63 for k in ("limit", "count"))
        and isinstance(statistics, dict)
        and len(statistics) <= _MAX_STATISTICS
        and all(_NAME.fullmatch(key) and _is_typical(v) for key, v in statistics.items())
        and (content.get("multiscale") is None or _is_spread(content["multiscale"]))
    )
    if not sound:
        raise DamagedInputError(f"{name}: its reference holds values that cannot be")
    typical = {key: Typical(**{k: float(x) for k, x in v.items()}) for key, v in statistics.items()}
    spread = content.get("multiscale")
    return Reference(**content | {"statistics": typical, "multiscale": spread and _spread(spread)})


def _is_typical(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"median", "mad"}
        and all(_is_number(x) for x in value.values())
        and value["mad"] >= 0
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _is_vector(value: Any, longest: int) -> bool:
    return isinstance(value, list) and 0 < len(value) <= longest and all(map(_is_number, value))


def _is_spread(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != Spread.__annotations__.keys():
        return False
    levels, mean, rows = value["levels"], value["mean"], value["covariance"]
    return (
        _is_vector(levels, _MAX_LEVELS)
        and all(sigma >= 0 for sigma in levels)
        and _is_vector(mean, _MAX_FIGURES)
        and isinstance(rows, list)
        and len(rows) == len(mean)
        and all(_is_vector(row, _MAX_FIGURES) and len(row) == len(mean) for row in rows)
        and _is_covariance(np.array(rows, dtype=np.float64))
    )


def _is_covariance(matrix: NDArray[np.float64]) -> bool:
    """Whether a finite matrix (F, F) can be a covariance, up to rounding."""
    variance = np.diag(matrix)
    if not (matrix == matrix.T).all() or (variance < 0).any():
        return False
    deviation = np.sqrt(np.where(variance > 0, variance, 1.0))
    with np.errstate(over="ignore"):
        correlation = matrix / deviation[:, None] / deviation
    if not (np.abs(correlation) < 1 + _ROUNDING).all():
        return False
    return bool(np.linalg.eigvalsh(correlation)[0] > -_ROUNDING * len(matrix))


def _spread(content: Any) -> Spread:
    return Spread(
        levels=tuple(map(float, content["levels"])),
        mean=tuple(map(float, content["mean"])),
        covariance=tuple(tuple(map(float, row)) for row in content["covariance"]),
    )
