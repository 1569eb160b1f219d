"""Data in one file, of whichever format its first bytes tell."""

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data import columns
from arcsm_cli.data.archives import GZIP_MAGIC, ZIP_MAGIC, archive_of, gunzipped
from arcsm_cli.data.arrays import (
    NPY_MAGIC,
    image_or_vector,
    label_count,
    label_values,
    open_npz,
    read_npy,
)
from arcsm_cli.data.dataset import MAX_BYTES, Beside, Dataset
from arcsm_cli.data.given import as_classes
from arcsm_cli.data.hdf5 import Hdf5File, is_ours
from arcsm_cli.data.matlab import MAT_MAGIC, MatFile
from arcsm_cli.data.named import NamedArrays, choose
from arcsm_cli.data.options import DEFAULT, DataOptions
from arcsm_cli.data.precision import narrowed
from arcsm_cli.data.shelf import Ours
from arcsm_cli.data.tables import Table, read_table
from arcsm_cli.data.vision import is_idx, read_idx
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import HDF5_SIGNATURE, UNKNOWN, describe, label, local_input, show
from arcsm_cli.notices import note

_ROWS = 1024
_HEAD = 512
_DATA = "data is .h5, .npz, .npy, .mat, a table, or a folder, a .zip or a .tar of images"


class _Found(NamedTuple):
    """What a file holds.

    Attributes:
        values, labels: of the examples.
        beside: what is known of each beside these, as far as ``--given`` asked for it already.
        table: which they are; its columns are chosen already.
    """

    values: Tensor
    labels: Tensor | None = None
    beside: tuple[Beside, ...] = ()
    table: Table | None = None


def load_file(
    source: str, limit: int | None = None, options: DataOptions = DEFAULT, member: str = ""
) -> Dataset:
    """Load all examples of an .h5, .npz, .npy, .mat, idx or text file, or of one in .gz.

    Arguments:
        source: A path, or ``-`` for standard input; the name's ending plays no part.
        limit: Take only the first ``limit`` examples.
        options: What ``--header``, ``--columns``, ``--drop``, ``--layout`` and ``--range`` say.
        member: The array to take of a file that holds several by name; empty if none was named.

    Raises:
        MissingInputError: The file does not exist or cannot be read, or has no such array.
        DamagedInputError: It is damaged, of no known format, can be read in several ways, or its
            values are not finite.
        UsageError: An option does not fit what it holds.
    """
    with local_input(source) as path:
        if _head(path).startswith(HDF5_SIGNATURE) and not member and is_ours(path):
            return columns.choose(_samples(path, source, limit, options), options)
        values, labels, beside, table = _load(path, options, member)
        # Last, since a file full of holes takes long to add up and is refused at once.
        digest = sha256_file(path)
    names = None if table is None else table.columns
    data = Dataset(source, narrowed(values), labels, digest, columns=names, beside=beside)
    return (columns.choose(data, options) if table is None else data).limit(limit)


def is_table(path: Path) -> bool:
    """Whether a file is read as a table in text, sound or not."""
    head = _head(path)
    magics = (GZIP_MAGIC, HDF5_SIGNATURE, ZIP_MAGIC, MAT_MAGIC, NPY_MAGIC)
    return not (head.startswith(magics) or is_idx(head) or b"\0" in head)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _load(path: Path, options: DataOptions, member: str) -> _Found:
    head, where = _head(path), label(path)
    if head.startswith(GZIP_MAGIC):
        with gunzipped(path) as unpacked:
            if _head(unpacked).startswith(GZIP_MAGIC):
                raise DamagedInputError(f"{where}: is packed twice")
            return _load(unpacked, options, member)
    if head.startswith(HDF5_SIGNATURE):
        with closing(Hdf5File(path)) as file:
            return _named(file, where, options, member)
    if head.startswith(ZIP_MAGIC):
        with open_npz(path) as archive:
            if not archive.names:
                raise DamagedInputError(f"{where}: is {_zip_of(archive.others)}")
            return _named(archive, where, options, member)
    if head.startswith(MAT_MAGIC):
        with closing(MatFile(path)) as arrays:
            return _named(arrays, where, options, member, matlab=True)
    if member:
        raise UsageError(f"{where}::{member}: only .npz, .h5 and .mat files hold arrays by name")
    if head.startswith(NPY_MAGIC):
        return _Found(image_or_vector(read_npy(path), where, options))
    if is_idx(head):
        return _Found(image_or_vector(read_idx(path, head[3]).numpy(), where, options))
    if archive_of(head) == "tar":
        raise DamagedInputError(f"{where}: is a tar archive; give it by its path")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DamagedInputError(f"{where}: is text in UTF-16: save it in UTF-8")
    what = describe(head)
    if what != UNKNOWN or b"\0" in head:
        advice = "" if ";" in what else f"; {_DATA}"
        raise DamagedInputError(f"{where}: is {what}{advice}")
    if options.layout is not None or options.value_range is not None:
        raise UsageError(f"{where}: is a table, of which --layout and --range mean nothing")
    table = read_table(path, options)
    return _Found(table.values, None, table.beside, table)


def _named(
    arrays: NamedArrays, where: str, options: DataOptions, member: str, *, matlab: bool = False
) -> _Found:
    """Read the examples and the labels of a file that holds arrays by name."""
    asked = options.labels_named
    name, beside = choose(arrays.names, member, where, asked)
    labels, wrong = None, None
    try:
        labels = None if beside is None else arrays.read(beside)
    except DamagedInputError as error:
        wrong = error
    count = None if labels is None else label_count(labels)
    what = f"{where}, {show(name)}"
    values = image_or_vector(arrays.read(name), what, options, count, columns=matlab)
    if labels is not None:
        try:
            found = label_values(labels, len(values), f"{where}, {show(beside)}")
            return _Found(values, found, (as_classes(asked, found),) if beside == asked else ())
        except DamagedInputError as error:
            wrong = error
    if wrong is not None and beside == asked:
        raise wrong
    if wrong is not None and not member:
        raise DamagedInputError(f"{wrong}; {where}::{name} is without labels")
    if wrong is not None:
        note("%s; they are left out", wrong)
    return _Found(values)


def _zip_of(names: list[str]) -> str:
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file, pickled, which arcsm never reads; save arrays with numpy.savez"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook; save its sheet as CSV"
    listed = show(", ".join(names[:8]) or "nothing", 100)
    return f"a zip archive of {listed}, neither arrays nor images; unpack it and give a file of it"


def _samples(path: Path, source: str, limit: int | None, options: DataOptions) -> Dataset:
    with SampleFile(path) as file:
        held = Ours(file, os.fspath(path), options)
        count = min(held.count, limit or held.count)
        if count * held.row_bytes > MAX_BYTES:
            raise DamagedInputError(
                f"{label(path)}: {count} samples do not fit in memory; use a lower --limit"
            )
        values = torch.empty(count, *held.shape, dtype=held.dtype)
        for start in range(0, count, _ROWS):
            stop = min(count, start + _ROWS)
            values[start:stop] = held.values(start, stop)
        labels, beside = held.beside(0, count)
        digest = sha256_file(path)
        return Dataset(source, values, labels, digest, held.source, held.names, beside=beside)
