"""Data in one file or on standard input, told apart by content."""

import hashlib
import io
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.data import files
from arcsm_cli.data.dataset import DataOptions, Dataset
from arcsm_cli.data.spec import load_data, train_and_valid
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.samples import SampleWriter

CHAIN = [{"program": "arcsm", "command": "sample"}]


def load(spec: str | Path, **given: Any) -> Dataset:
    return load_data(str(spec), DataOptions(**given), default_split="test")


def samples(path: Path, values: np.ndarray[Any, Any], **extra: Any) -> Path:
    with SampleWriter(path, values.shape[1:], CHAIN) as writer:
        writer.append(values, **extra)
    return path


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def kinds(tmp_path: Path) -> dict[str, bytes]:
    """The same two vectors in every format."""
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    samples(tmp_path / "h5", values)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", x=values)
    names = {"h5": "h5", "npy": "a.npy", "npz": "a.npz"}
    return {kind: (tmp_path / name).read_bytes() for kind, name in names.items()} | {
        "csv": b"a,b\n1,2\n3,4\n"
    }


@pytest.mark.parametrize("kind", ["h5", "npy", "npz", "csv"])
def test_the_format_is_told_by_content_and_not_by_name(
    tmp_path: Path, kinds: dict[str, bytes], kind: str
) -> None:
    (tmp_path / "data.png").write_bytes(kinds[kind])
    assert load(tmp_path / "data.png").values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", ["h5", "npy", "npz", "csv"])
def test_standard_input_is_read_in_every_format(
    monkeypatch: pytest.MonkeyPatch, kinds: dict[str, bytes], kind: str
) -> None:
    stdin(monkeypatch, kinds[kind])
    assert load("-").values.tolist() == [[1, 2], [3, 4]]


def test_a_named_pipe_is_read(tmp_path: Path, kinds: dict[str, bytes]) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[kinds["npy"]])
    writer.start()
    assert load(tmp_path / "pipe").values.tolist() == [[1, 2], [3, 4]]
    writer.join()


def test_training_and_validation_data_come_from_one_reading_of_standard_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdin(monkeypatch, "\n".join(map(str, range(30))).encode())
    train, valid = train_and_valid("-:train", DataOptions())
    assert (len(train), len(valid)) == (24, 3)


def test_errors_call_standard_input_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"1,2\n3,x\n")
    with pytest.raises(DamagedInputError, match="standard input: column 2"):
        load("-")


@pytest.mark.parametrize("kind", ["h5", "npy", "npz", "csv"])
def test_the_digest_is_that_of_the_file(tmp_path: Path, kinds: dict[str, bytes], kind: str) -> None:
    (tmp_path / "x").write_bytes(kinds[kind])
    assert load(tmp_path / "x", limit=1).digest == hashlib.sha256(kinds[kind]).hexdigest()


def test_samples_bring_their_provenance(tmp_path: Path) -> None:
    path = samples(tmp_path / "s.h5", np.zeros((3, 1, 2, 2), np.float32))
    assert load(path).source == CHAIN


def test_samples_bring_their_labels(tmp_path: Path) -> None:
    path = samples(tmp_path / "s.h5", np.zeros((3, 2), np.float32), labels=np.array([2, 0, 1]))
    labels = load(path).labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]


def test_samples_are_read_in_blocks_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    values = rng.random((11, 1, 2, 2), np.float32)
    monkeypatch.setattr(files, "_ROWS", 3)
    assert torch.equal(load(samples(tmp_path / "s.h5", values)).values, torch.from_numpy(values))


def test_samples_may_leave_the_unit_interval(tmp_path: Path) -> None:
    path = samples(tmp_path / "s.h5", np.full((1, 1, 2, 2), 1.25, np.float32))
    assert load(path).values.max() == 1.25


def test_labels_of_an_archive_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([5, 6]))
    labels = load(tmp_path / "x.npz").labels
    assert labels is not None
    assert labels.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (pickle.dumps({"x": np.ones(3)}), "pickled"),
        (b"\x90\0\0\0\0\0\0\0{}", "safetensors"),
        (b"\x7fELF\0\0\0", "no format"),
        (b"PK\x03\x04 and nothing more", "zip|damaged"),
        (b"\x89HDF\r\n\x1a\n and nothing more", "HDF5"),
    ],
)
def test_other_files_are_damaged_and_said_to_be_what_they_are(
    tmp_path: Path, content: bytes, what: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DamagedInputError, match=what):
        load(tmp_path / "x")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 2, 2)])
def test_values_that_are_not_finite_are_named(
    tmp_path: Path, value: float, shape: tuple[int, ...]
) -> None:
    array = np.zeros(shape)
    array[(2, *(0 for _ in shape[1:]))] = value
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DamagedInputError, match=r"x\.npy: the value at \[2, 0"):
        load(tmp_path / "x.npy")
