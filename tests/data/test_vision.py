"""The downloaded image sets, from small files laid out as the real ones."""

import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from arcsm_cli.data.celeba import read_celeba
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.decoding import decode
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.data.vision import read_idx
from arcsm_cli.errors import DamagedInputError, MissingInputError, UnavailableError

Hostile = Callable[[], AbstractContextManager[None]]

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(spec: str, options: DataOptions) -> Dataset:
    return load_data(spec, options, default_split="test")


def pixels(data: Dataset) -> bytes:
    return data.values.numpy().tobytes()


@pytest.mark.parametrize(("split", "part"), [("train", "train"), ("test", "t10k")])
def test_mnist_is_read_bit_by_bit(mnist: Path, options: DataOptions, split: str, part: str) -> None:
    data = load(f"mnist:{split}", options)
    assert pixels(data) == (mnist / f"{part}-images-idx3-ubyte").read_bytes()[16:]


def test_mnist_labels_belong_to_their_images(mnist: Path, options: DataOptions) -> None:
    labels = load("mnist", options).labels
    assert labels is not None
    assert bytes(labels.tolist()) == (mnist / "t10k-labels-idx1-ubyte").read_bytes()[8:]


def test_packed_mnist_files_are_read(mnist: Path, options: DataOptions) -> None:
    plain = load("mnist", options)
    for path in list(mnist.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(load("mnist", options).values, plain.values)


def test_fashion_mnist_has_its_own_folder(mnist: Path, options: DataOptions) -> None:
    mnist.parent.rename(options.root / "FashionMNIST")
    assert len(load("fashion-mnist:train", options)) == 20


def test_one_split_needs_only_its_own_files(mnist: Path, options: DataOptions) -> None:
    for path in mnist.glob("train-*"):
        path.unlink()
    assert len(load("mnist", options)) == 10


def test_training_never_touches_the_test_split(mnist: Path, options: DataOptions) -> None:
    for path in mnist.glob("t10k-*"):
        path.unlink()
    train, valid = load_training("mnist", options)[:2]
    assert (len(train), len(valid)) == (18, 2)


def test_labels_for_another_number_of_images_are_damaged(mnist: Path, options: DataOptions) -> None:
    (mnist / "t10k-labels-idx1-ubyte").write_bytes((mnist / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DamagedInputError, match="20 labels for 10 images"):
        load("mnist", options)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x01" + bytes(4),
        b"\0\0\x08\x03" + bytes(12),
        b"\0\0\x0d\x03" + bytes(3) + b"\1" + bytes(3) + b"\1" + bytes(3) + b"\1" + bytes(4),
        b"\0\0\x08\x03" + b"\xff" * 12,
        b"\0\0\x08\x03" + bytes(3) + b"\2" + bytes(3) + b"\2" + bytes(3) + b"\2" + bytes(7),
        b"\0\0\x08\x03" + bytes(3) + b"\2" + bytes(3) + b"\2" + bytes(3) + b"\2" + bytes(9),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, packed: bool) -> None:
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DamagedInputError, match=path.name):
        read_idx(tmp_path / "x", 3)


@quick
@given(content=st.binary(max_size=40), packed=st.booleans(), head=st.booleans())
def test_any_bytes_as_idx_file_are_read_or_damaged(
    tmp_path: Path, content: bytes, packed: bool, head: bool, hostile: Hostile
) -> None:
    (tmp_path / "x").unlink(missing_ok=True)
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes((b"\0\0\x08\x01" if head and not packed else b"") + content)
    with hostile():
        read_idx(tmp_path / "x", 1)


def test_a_truncated_packed_idx_file_is_damaged(tmp_path: Path) -> None:
    content = gzip.compress(b"\0\0\x08\x01\0\0\0\x20" + bytes(range(32)))
    (tmp_path / "x.gz").write_bytes(content[:-9])
    with pytest.raises(DamagedInputError, match="damaged gzip"):
        read_idx(tmp_path / "x", 1)


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("test", 4)])
def test_cifar_splits_have_all_their_batches(
    cifar: Path, options: DataOptions, split: str, count: int
) -> None:
    assert load(f"cifar10:{split}", options).values.shape == (count, 3, 32, 32)


def test_cifar_images_follow_their_label_bytes(cifar: Path, options: DataOptions) -> None:
    data = load("cifar10", options)
    content = (cifar / "test_batch.bin").read_bytes()
    assert data.labels is not None
    assert data.labels.tolist() == list(content[::3073])
    assert pixels(data)[:3072] == content[1:3073]


@pytest.mark.parametrize("cut", [1, 3072, 4 * 3073])
def test_a_cut_cifar_batch_is_damaged(cifar: Path, options: DataOptions, cut: int) -> None:
    path = cifar / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedInputError, match="test_batch"):
        load("cifar10", options)


def test_a_cifar_label_above_nine_is_damaged(cifar: Path, options: DataOptions) -> None:
    content = bytearray((cifar / "test_batch.bin").read_bytes())
    content[3073] = 10
    (cifar / "test_batch.bin").write_bytes(content)
    with pytest.raises(DamagedInputError, match="record 1 has label 10"):
        load("cifar10", options)


def test_the_pickled_version_of_cifar_is_not_read(options: DataOptions) -> None:
    folder = options.root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "test_batch").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(UnavailableError, match="--download"):
        load("cifar10", options)


def test_svhn_axes_are_put_in_order(svhn: Path, options: DataOptions) -> None:
    from scipy.io import loadmat

    stored = loadmat(svhn)["X"]
    values = load("svhn:train", options).values
    assert values.shape == (12, 3, 32, 32)
    assert values[7, 2, 5, 9] == stored[5, 9, 2, 7]


def test_the_tenth_class_of_svhn_is_the_digit_zero(svhn: Path, options: DataOptions) -> None:
    labels = load("svhn:train", options).labels
    assert labels is not None
    assert labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


@pytest.mark.parametrize(
    "arrays",
    [
        {"X": np.zeros((32, 32, 3, 2), np.uint8)},
        {"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))},
        {"X": np.zeros((32, 32, 4, 2), np.uint8), "y": np.ones((2, 1))},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.full((2, 1), 11)},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([["a"], ["b"]])},
        {"X": np.zeros((32, 32), np.uint8), "y": np.ones((2, 1))},
    ],
)
def test_other_matlab_files_are_damaged(
    svhn: Path, options: DataOptions, arrays: dict[str, Any]
) -> None:
    savemat(svhn, arrays)
    with pytest.raises(DamagedInputError, match="train_32x32"):
        load("svhn:train", options)


@pytest.mark.slow
@quick
@given(data=st.data())
def test_a_cut_or_altered_matlab_file_is_damaged_or_read(
    svhn: Path, options: DataOptions, data: st.DataObject, hostile: Hostile
) -> None:
    sound = svhn.read_bytes()
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    svhn.write_bytes(content)
    with hostile():
        load("svhn:train", options)
    svhn.write_bytes(sound)


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("valid", 2), ("test", 3)])
def test_celeba_has_the_splits_of_its_partition(
    celeba: Path, options: DataOptions, split: str, count: int
) -> None:
    assert load(f"celeba:{split}", options).values.shape == (count, 3, 218, 178)


def test_celeba_images_are_those_of_the_partition(celeba: Path, options: DataOptions) -> None:
    values = load("celeba:valid", options).values
    assert torch.equal(
        values[0], torch.from_numpy(decode(celeba / "img_align_celeba" / "000007.jpg")[0])
    )


def test_celeba_is_cropped_and_resized(celeba: Path, options: DataOptions) -> None:
    data = load("celeba", replace(options, center_crop=140, resize=32))
    assert data.shape == (3, 32, 32)


def test_celeba_decodes_no_more_than_the_limit(celeba: Path, options: DataOptions) -> None:
    (celeba / "img_align_celeba" / "000002.jpg").write_bytes(b"")
    assert len(load("celeba:train", replace(options, limit=1))) == 1


def test_training_on_celeba_validates_on_its_own_split(celeba: Path, options: DataOptions) -> None:
    train, valid = load_training("celeba", replace(options, resize=4))[:2]
    assert (train.name, valid.name) == ("celeba:train", "celeba:valid")


def test_a_celeba_image_that_is_not_there_is_named(celeba: Path, options: DataOptions) -> None:
    (celeba / "img_align_celeba" / "000009.jpg").unlink()
    with pytest.raises(MissingInputError, match=r"000009\.jpg"):
        read_celeba("celeba", "test", options)


@pytest.mark.parametrize("line", ["../../secret.jpg 2", "1.jpg 3", "1.jpg", "1.jpg 2 2"])
def test_other_lines_in_the_partition_are_damaged(
    celeba: Path, options: DataOptions, line: str
) -> None:
    (celeba / "list_eval_partition.txt").write_text(f"000001.jpg 0\n{line}\n")
    with pytest.raises(DamagedInputError, match="line 2"):
        load("celeba", options)


def test_a_partition_without_the_split_is_damaged(celeba: Path, options: DataOptions) -> None:
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DamagedInputError, match="no image of this split"):
        load("celeba", options)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn", "celeba"])
def test_a_set_that_is_not_there_says_how_to_get_it(name: str, options: DataOptions) -> None:
    with pytest.raises(UnavailableError, match=f"'{name}': .* --download, or .* --data-dir"):
        load(name, options)
