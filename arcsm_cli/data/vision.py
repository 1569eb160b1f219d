"""MNIST, Fashion-MNIST, CIFAR-10 and SVHN, in the folders that torchvision uses.

The files are read here and not by torchvision, whose CIFAR-10 reader unpickles: that set is read
from its binary version instead.
"""

import contextlib
import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.arrays import label_values
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.download import ensure, gz
from arcsm_cli.data.matlab import MatFile
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UnavailableError
from arcsm_cli.io.streams import label, open_regular

MAX_IDX_BYTES = 2**28  # several times the largest of these
MAX_SVHN_IMAGES = 1_000_000

CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_ARCHIVE = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
)
CIFAR_RECORD = 1 + 3 * 32 * 32
CIFAR_FILES = {
    "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["test_batch.bin"],
}


def load_vision(name: str, split: str, options: DataOptions) -> Dataset:
    """Return a split of ``mnist``, ``fashion-mnist``, ``cifar10`` or ``svhn`` (8 bits, labelled).

    Raises:
        UnavailableError: It is not below the data folder and could not, or may not, be fetched.
        DamagedInputError: A file is damaged.
    """
    if name == "cifar10":
        values, labels = _cifar(split, options)
    elif name == "svhn":
        values, labels = _svhn(split, options)
    else:
        values, labels = _mnist(name, split, options)
    return Dataset(f"{name}:{split}", values, labels)


def _mnist(name: str, split: str, options: DataOptions) -> tuple[Tensor, Tensor]:
    folder = options.root / ("MNIST" if name == "mnist" else "FashionMNIST") / "raw"
    part = "train" if split == "train" else "t10k"
    images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"

    def fetch(staging: Path) -> None:
        from torchvision.datasets import MNIST, FashionMNIST
        from torchvision.datasets.utils import download_and_extract_archive

        source = MNIST if name == "mnist" else FashionMNIST
        for file, md5 in source.resources:
            if (staging / file.removesuffix(".gz")).exists():
                continue  # of an earlier attempt, that was cut off later
            for number, mirror in enumerate(source.mirrors, 1):
                try:
                    download_and_extract_archive(
                        mirror + file, str(staging), filename=file, md5=md5, remove_finished=True
                    )
                    break
                except (OSError, RuntimeError):
                    if number == len(source.mirrors):
                        raise

    ensure(name, folder, [images, labels], options, fetch)
    values = read_idx(folder / images, 3).unsqueeze(1)
    classes = read_idx(folder / labels, 1)
    if len(values) != len(classes):
        raise DamagedInputError(
            f"{label(folder / labels)}: {len(classes)} labels for {len(values)} images"
        )
    return values, classes.long()


def is_idx(head: bytes) -> bool:
    """Return whether a file of these first bytes is an idx file of unsigned bytes."""
    return head[:3] == b"\0\0\x08" and 1 <= head[3] <= 4 and head[8:9] != b"{"


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an idx file of unsigned bytes, packed with gzip if only ``path.gz`` exists.

    Arguments:
        path: The file without ``.gz``.
        dimensions: How many axes it must have.

    Raises:
        DamagedInputError: It is no such file, too long, too short, or holds nothing.
        UnavailableError: It cannot be opened.
    """
    packed = None if path.exists() else gz(path)
    where = label(packed or path)
    try:
        with open_regular(packed or path) as file:
            return _idx(gzip.GzipFile(fileobj=file) if packed else file, dimensions, where)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedInputError(f"{where}: damaged gzip file") from error
    except OSError as error:
        raise UnavailableError(f"{where}: {error.strerror or error}") from error


def _idx(stream: IO[bytes] | gzip.GzipFile, dimensions: int, where: str) -> Tensor:
    header = stream.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
        raise DamagedInputError(
            f"{where}: expected an idx file of unsigned bytes with {dimensions} axes"
        )
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4)]
    size = math.prod(shape)
    if not 0 < size <= MAX_IDX_BYTES:
        raise DamagedInputError(f"{where}: shape {tuple(shape)} is empty or too large")
    # read() returns what is there, so that a false header cannot make it take more memory
    content = stream.read(size + 1)
    if len(content) != size:
        state = "truncated" if len(content) < size else "longer than its header says"
        raise DamagedInputError(f"{where}: {state} (shape {tuple(shape)})")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def _cifar(split: str, options: DataOptions) -> tuple[Tensor, Tensor]:
    files = [f"{CIFAR_FOLDER}/{file}" for file in CIFAR_FILES[split]]

    def fetch(staging: Path) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        url, md5 = CIFAR_ARCHIVE
        download_and_extract_archive(url, str(staging), md5=md5, remove_finished=True)

    ensure("cifar10", options.root, files, options, fetch)
    records = np.concatenate([_cifar_records(options.root / file) for file in files])
    values = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32))
    return values, torch.from_numpy(records[:, 0].astype(np.int64))


def _cifar_records(path: Path) -> NDArray[np.uint8]:
    """Read one batch of the binary version: a label byte and 3 x 32 x 32 values per record."""
    limit = 100_000 * CIFAR_RECORD  # ten times a real batch
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UnavailableError(f"{label(path)}: {error.strerror or error}") from error
    if not 0 < len(content) <= limit or len(content) % CIFAR_RECORD:
        raise DamagedInputError(
            f"{label(path)}: damaged: a CIFAR-10 batch holds records of {CIFAR_RECORD} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    if records[:, 0].max() > 9:
        bad = int(np.argmax(records[:, 0] > 9))
        raise DamagedInputError(f"{label(path)}: damaged: record {bad} has label {records[bad, 0]}")
    return records


def _svhn(split: str, options: DataOptions) -> tuple[Tensor, Tensor]:
    file = f"{split}_32x32.mat"

    def fetch(staging: Path) -> None:
        from torchvision.datasets import SVHN
        from torchvision.datasets.utils import download_url

        url, name, md5 = SVHN.split_list[split]
        download_url(url, str(staging), name, md5)

    ensure("svhn", options.root, [file], options, fetch)
    return read_svhn(options.root / file)


def read_svhn(path: Path) -> tuple[Tensor, Tensor]:
    """Read the images (N x 3 x 32 x 32) and classes of a MATLAB file laid out as SVHN's are.

    Raises:
        DamagedInputError: It is no such file.
    """
    where = label(path)
    try:
        open_regular(path).close()
    except OSError as error:
        raise UnavailableError(f"{where}: {error.strerror or error}") from error
    damaged = DamagedInputError(f"{where}: damaged: no images 32 x 32 x 3 x N with N labels")
    with contextlib.closing(MatFile(path)) as file:
        shape, kind = file.declared.get("X", ([], ""))
        count = shape[3] if len(shape) == 4 else 0
        sound = (
            shape[:3] == [32, 32, 3]
            and kind == "uint8"
            and 0 < count <= MAX_SVHN_IMAGES
            and sorted(file.declared.get("y", ([], ""))[0]) == sorted((count, 1))
        )
        if not sound:
            raise damaged
        images, numbers = file.read("X"), file.read("y")
    if images.dtype != np.uint8:
        raise damaged
    classes = label_values(numbers, count, where)
    if classes.min() < 0 or classes.max() > 10:
        raise DamagedInputError(f"{where}: damaged: labels are not 1 to 10")
    # height, width, channel, image in the file, where the class 10 is the digit 0
    values = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
    return values, classes % 10
