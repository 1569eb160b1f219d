"""Data in one file, of whichever format its first bytes tell."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.arrays import (
    NPY_MAGIC,
    image_or_vector,
    label_values,
    read_npy,
    read_npz,
)
from arcsm_cli.data.columns import choose
from arcsm_cli.data.dataset import MAX_BYTES, DataOptions, Dataset
from arcsm_cli.data.precision import narrowed
from arcsm_cli.data.tables import read_table
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import HDF5_SIGNATURE, describe, label, local_input

ZIP_MAGIC = b"PK\x03\x04"
_ROWS = 1024


def load_file(source: str, limit: int | None = None, options: DataOptions | None = None) -> Dataset:
    """Load all examples of an .h5 (arcsm-samples), .npz, .npy or text file.

    Arguments:
        source: A path, or ``-`` for standard input; the name's ending plays no part.
        limit: Take only the first ``limit`` examples.
        options: What ``--header``, ``--columns`` and ``--drop`` say.

    Raises:
        MissingInputError: The file does not exist or cannot be read.
        DamagedInputError: It is damaged, of no known format, or its values are not finite.
    """
    options = options or DataOptions()
    with local_input(source) as path:
        with open(path, "rb") as file:
            head = file.read(512)
            if head.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DamagedInputError(f"{label(path)}: is text in UTF-16: save it in UTF-8")
            if not head.startswith((HDF5_SIGNATURE, NPY_MAGIC, ZIP_MAGIC)) and (
                not head or b"\0" in head or head.startswith(b"\x80")
            ):
                raise DamagedInputError(
                    f"{label(path)}: is {describe(head)}; data is .h5, .npz, .npy, a table of "
                    "numbers or a folder of images"
                )
        if head.startswith(HDF5_SIGNATURE):
            return choose(_samples(path, source, limit), options)
        if head.startswith(NPY_MAGIC):
            values, labels = image_or_vector(read_npy(path), label(path)), None
        elif head.startswith(ZIP_MAGIC):
            values, labels = _npz(path)
        else:
            table = read_table(path, options)
            return Dataset(
                source, narrowed(table.values), digest=sha256_file(path), columns=table.columns
            ).limit(limit)
        # Last, since a file full of holes takes long to add up and is refused at once.
        digest = sha256_file(path)
    return choose(Dataset(source, narrowed(values), labels, digest), options).limit(limit)


def _npz(path: Path) -> tuple[Tensor, Tensor | None]:
    array, labels = read_npz(path)
    values = image_or_vector(array, label(path))
    if labels is None:
        return values, None
    return values, label_values(labels, len(values), f"{label(path)}, labels")


def _samples(path: Path, source: str, limit: int | None) -> Dataset:
    where = label(path)
    with SampleFile(path) as file:
        count = len(file) if limit is None else min(limit, len(file))
        size = count * int(np.prod(file.shape))
        if not size or len(file.shape) not in (1, 3):
            shape = " x ".join(map(str, (len(file), *file.shape)))
            raise DamagedInputError(
                f"{where}: samples of shape {shape}; expected N x D or N x C x H x W, N at least 1"
            )
        if size * 4 > MAX_BYTES:
            raise DamagedInputError(
                f"{where}: {count} samples do not fit in memory; use a lower --limit"
            )
        values = torch.empty(count, *file.shape, dtype=torch.float64 if file.wide else None)
        for start in range(0, count, _ROWS):
            stop = min(count, start + _ROWS)
            # pixels of samples may leave [0, 1], being noisy
            part = image_or_vector(file.read(start, stop), where, bounded=False)
            values[start:stop] = part
        labels = None
        if "labels" in file.names:
            labels = label_values(file.read(0, count, "labels"), count, f"{where}, labels")
        digest, chain = sha256_file(path), list(file.provenance)
        return Dataset(source, values, labels, digest, chain, file.columns)
