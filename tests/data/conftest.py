"""Small files laid out as the real ones, for the tests of the data sources."""

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError


def idx(array: NDArray[np.uint8]) -> bytes:
    """The idx format of the MNIST files."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def hostile() -> Callable[[], AbstractContextManager[None]]:
    """Contexts in which a reader may do its work or find its input damaged, in one line."""

    @contextmanager
    def context() -> Iterator[None]:
        try:
            yield
        except DamagedInputError as error:
            if "\n" in str(error):
                pytest.fail(f"more than one line: {error}")

    return context


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    """Options whose data folder is an empty temporary one."""
    return DataOptions(data_dir=tmp_path / "data")


@pytest.fixture
def mnist(options: DataOptions, rng: np.random.Generator) -> Path:
    """A MNIST of 20 training and 10 test images; the folder of its files."""
    folder = options.root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture
def cifar(options: DataOptions, rng: np.random.Generator) -> Path:
    """A CIFAR-10, binary version, of 4 images a batch; the folder of its files."""
    folder = options.root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (4, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


@pytest.fixture
def svhn(options: DataOptions, rng: np.random.Generator) -> Path:
    """The training part of an SVHN of 12 images; its file."""
    options.root.mkdir(parents=True)
    path = options.root / "train_32x32.mat"
    images = rng.integers(0, 256, (32, 32, 3, 12), np.uint8)
    savemat(path, {"X": images, "y": np.arange(12, dtype=np.uint8)[:, None] % 10 + 1})
    return path


@pytest.fixture
def celeba(options: DataOptions, rng: np.random.Generator) -> Path:
    """A CelebA of 6 + 2 + 3 images of 178 x 218; its folder."""
    folder = options.root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for number in range(11):
        name = f"{number + 1:06}.jpg"
        pixels = rng.integers(0, 256, (218, 178, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
        lines.append(f"{name} {0 if number < 6 else 1 if number < 8 else 2}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def save_images(rng: np.random.Generator) -> Callable[..., None]:
    """A function that writes images of random pixels: (folder, *names, size=..., mode=...)."""

    def save(folder: Path, *names: str, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            planes = () if mode == "L" else (len(mode),)
            pixels = rng.integers(0, 256, (size[1], size[0], *planes), np.uint8)
            Image.fromarray(pixels).save(path)

    return save
