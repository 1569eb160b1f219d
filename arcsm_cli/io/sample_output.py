"""Where commands write samples to: HDF5, or by its name a table, an archive or pictures.

What is written is first an ordinary sample file, so that the checks, the order and the precision
are the same; tables and archives are made of it in blocks.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import UsageError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.atomic import atomic_folder, atomic_output, check_folder, check_output
from arcsm_cli.io.picture_folder import PictureWriter, is_ours
from arcsm_cli.io.sample_layout import EXAMPLES, STATISTICS
from arcsm_cli.io.samples import SampleFile, SampleWriter
from arcsm_cli.io.scratch import scratch_file

logger = logging.getLogger(__name__)

# Endings that tell a reader of a kind of file; others, and none, tell nothing.
_TELLING = {
    *(".h5", ".hdf5", ".npz", ".npy", ".csv", ".tsv", ".txt", ".json", ".xlsx", ".xls", ".parquet"),
    *(".feather", ".mat", ".pt", ".pth", ".ckpt", ".pkl", ".bin", ".onnx", ".safetensors"),
    *(".png", ".jpg", ".jpeg", ".gif", ".pdf", ".svg", ".zip", ".tar", ".gz", ".toml"),
}
_SAMPLES = (".h5", ".hdf5", ".npz", ".csv")
_BLOCK_BYTES = 4 << 20
_MADE = (1980, 1, 1, 0, 0, 0)  # the same bytes at any time


def check_ending(target: str, written: tuple[str, ...], what: str) -> None:
    """Refuse a name that tells of another kind of file than is written.

    Raises:
        UsageError: its ending is known, and not among those ``written``.

    Example:
        >>> check_ending("model.v2", (".safetensors",), "a checkpoint")
        >>> check_ending("model.pt", (".safetensors",), "a checkpoint")
        Traceback (most recent call last):
        arcsm_cli.errors.UsageError: --output model.pt: a checkpoint is written as .safetensors
    """
    ending = PurePath(target).suffix.lower()
    if ending in _TELLING and ending not in written:
        raise UsageError(f"--output {target}: {what} is written as {' or '.join(written)}")


def check_sample_output(target: str, *, force: bool) -> None:
    """Refuse early an output for samples that could not be written at the end.

    Raises:
        UsageError, OutputError: as `check_ending` and `check_output`.
    """
    if _is_folder(target):
        check_folder(target, force=force, ours=is_ours)
        return
    check_ending(target, _SAMPLES, "a sample file")
    check_output(target, force=force)


def _is_folder(target: str) -> bool:
    return target.endswith(os.sep)


class Append(Protocol):
    """Adds a batch of examples to a file; see `SampleWriter.append`."""

    def __call__(
        self,
        samples: Any,
        *,
        clean: Any = None,
        corrupted: Any = None,
        labels: Any = None,
        statistics: dict[str, Any] | None = None,
    ) -> None: ...


def append_nothing(samples: Any, **beside: Any) -> None:
    """Write nothing, where there is no file or another process writes it."""


@contextmanager
def sample_output(
    target: str | None,
    shape: tuple[int, ...],
    provenance: list[dict[str, Any]],
    columns: tuple[str, ...] | None = None,
    *,
    force: bool = False,
    writes: bool = True,
    by_label: bool = False,
) -> Iterator[Append]:
    """Yield what adds samples to a file, which appears whole at the end or not at all.

    ``.csv`` takes vectors: their columns, then labels and statistics. ``.npz`` takes all datasets,
    and the provenance as text. ``FOLDER/`` becomes one of 8-bit PNG files. All else becomes HDF5.

    Arguments:
        target: a path, ``-`` for standard output, or None for nothing.
        shape, provenance, columns: as of `SampleWriter`.
        force: an existing file may be replaced.
        writes: whether this process is the one that writes.
        by_label: of a folder: put pictures in one for each label.

    Raises:
        UsageError: the ending is of another kind of file, a table is to hold images, or a folder
            none.
        OutputError: as `atomic_output`.
    """
    if target is None or not writes:
        yield append_nothing
        return
    if by_label and not _is_folder(target):
        raise UsageError(f"--by-label is for folders of pictures: -o {target}{os.sep}")
    if _is_folder(target):
        with atomic_folder(target, force=force, ours=is_ours) as folder:
            pictures = PictureWriter(folder, target, shape, provenance, by_label=by_label)
            yield pictures.append
            pictures.say()
        return
    check_ending(target, _SAMPLES, "a sample file")
    ending = PurePath(target).suffix.lower()
    if ending == ".csv" and len(shape) != 1:
        raise UsageError(f"--output {target}: images are written as .h5 or .npz, tables as .csv")
    with atomic_output(target, force=force) as temporary:
        if ending not in (".csv", ".npz"):
            with SampleWriter(temporary, shape, provenance, columns) as writer:
                yield writer.append
            return
        with scratch_file(temporary.parent, PurePath(target).name[:100]) as spool:
            with SampleWriter(spool, shape, provenance, columns) as writer:
                yield writer.append
            with SampleFile(spool) as samples:
                (_write_table if ending == ".csv" else _write_archive)(samples, temporary, target)


def _write_table(samples: SampleFile, path: Path, target: str) -> None:
    names = [name for name in samples.names if name not in EXAMPLES[1:]]
    left = [name for name in samples.names if name in EXAMPLES[1:]]
    if left:
        logger.warning("%s: %s left out of the table; .h5 holds all", target, " and ".join(left))
    first = samples.columns or tuple(f"x{d}" for d in range(1, samples.shape[0] + 1))
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        heading = list(first)
        for name in names[1:]:
            title = name.removeprefix(f"{STATISTICS}/")
            width = math.prod(samples.read(0, 0, name).shape[1:])
            titles = [title] if width == 1 else [f"{title}.{i + 1}" for i in range(width)]
            heading += [f"{t}_" if t in first else t for t in titles]
        table.writerow(heading)
        for blocks in _blocks(samples, names):
            # As text each value is the shortest that reads back as itself.
            texts = [block.reshape(len(block), -1).astype(str) for block in blocks]
            table.writerows(np.concatenate(texts, 1).tolist())


def _write_archive(samples: SampleFile, path: Path, target: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def member(name: str) -> zipfile.ZipInfo:
            info = zipfile.ZipInfo(f"{name}.npy", _MADE)
            info.compress_type = zipfile.ZIP_DEFLATED
            return info

        texts = {"provenance": np.array(bounded_json.dump(samples.provenance))}
        if samples.columns:
            texts["columns"] = np.array(samples.columns)
        for name, text in texts.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, text, allow_pickle=False)
            archive.writestr(member(name), buffer.getvalue())
        for name in samples.names:
            empty = samples.read(0, 0, name)
            header = np.lib.format.header_data_from_array_1_0(empty)
            header["shape"] = (len(samples), *empty.shape[1:])
            with archive.open(member(name), "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for (block,) in _blocks(samples, [name]):
                    file.write(np.ascontiguousarray(block).tobytes())


def _blocks(samples: SampleFile, names: list[str]) -> Iterator[list[NDArray[Any]]]:
    row = sum(8 * math.prod(samples.read(0, 0, name).shape[1:]) for name in names)
    size = max(1, _BLOCK_BYTES // row)
    for start in range(0, len(samples), size):
        yield [samples.read(start, start + size, name) for name in names]
