"""Data in one file or on standard input, told apart by content."""

import gzip
import hashlib
import io
import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from arcsm_cli.data import archives, files
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.samples import SampleWriter
from tests.data.conftest import idx

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
    train, valid = load_training("-:train", DataOptions())[:2]
    assert {train.name, valid.name} == {"-:train", "-:valid"}


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


ARRAYS = {
    "x_train": np.full((5, 6, 6), 200, np.uint8),
    "y_train": np.arange(5),
    "x_test": np.full((3, 6, 6), 100, np.uint8),
    "y_test": np.arange(3)[:, None],
}


def save(path: Path, arrays: dict[str, Any]) -> Path:
    """Save arrays by name, in the format of the path's suffix."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


@pytest.mark.parametrize("suffix", ["npz", "h5", "mat"])
def test_one_of_several_arrays_is_read_by_name_with_the_labels_beside_it(
    tmp_path: Path, suffix: str
) -> None:
    path = save(tmp_path / f"x.{suffix}", ARRAYS)
    data = load(f"{path}::x_test")
    assert (data.shape, data.values.max().item()) == ((1, 6, 6), 100)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2]
    assert data.name == f"{path}::x_test"


def test_a_split_of_a_named_array_is_a_part_of_it(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save(tmp_path / "x.npz", {"x_train": rng.normal(size=(60, 2)), "more": np.ones(3)})
    parts = [load(f"{path}::x_train:{split}").values for split in ("train", "valid", "test")]
    rows = torch.cat(parts)
    assert (len(rows), len(torch.unique(rows, dim=0))) == (60, 60)


@pytest.mark.parametrize("suffix", ["npz", "h5", "mat"])
def test_several_arrays_are_refused_with_what_to_ask_for(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", ARRAYS)
    with pytest.raises(DamagedInputError, match=r"::NAME says which, of .*x_train"):
        load(path)
    with pytest.raises(MissingInputError, match=r"no array 'x_valid'; it holds .*x_train"):
        load(f"{path}::x_valid")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("images", "labels"),
        ("samples", "y"),
        ("x", "y"),
        ("X", "Y"),
        ("data", "label"),
        ("data", "target"),
        ("anything", "labels"),
        ("train_images", "train_labels"),
    ],
)
def test_examples_and_labels_are_found_under_their_usual_names(
    tmp_path: Path, name: str, labels: str
) -> None:
    found = load(save(tmp_path / "x.npz", {labels: np.array([3, 4]), name: np.ones((2, 3))}))
    assert found.shape == (3,)
    assert found.labels is not None
    assert found.labels.tolist() == [3, 4]


def test_arrays_that_are_left_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "x.npz", {"x": np.ones((2, 3)), "mean": np.array(0.5)})
    with caplog.at_level("INFO"):
        load(path)
    assert any("'mean'" in record.getMessage() for record in caplog.records)


def test_labels_that_do_not_fit_are_refused_unless_the_examples_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", {"images": np.ones((5, 4)), "labels": np.array(list("abcde"))})
    with pytest.raises(DamagedInputError, match=r"'labels': holds .*::images is without labels"):
        load(path)
    assert load(f"{path}::images").labels is None


def test_the_layout_of_another_program_s_hdf5_is_followed(tmp_path: Path) -> None:
    pixels = np.linspace(0, 1, 5 * 6 * 6).reshape(5, 6, 6)
    path = save(tmp_path / "x.h5", {"train/x": pixels, "train/y": np.arange(5), "test/x": pixels})
    data = load(f"{path}::/train/x")
    assert torch.allclose(data.values[:, 0].double(), torch.from_numpy(pixels))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["soft link", "external link", "virtual", "text", "external"])
def test_what_leads_out_of_an_hdf5_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    secret = save(tmp_path / "secret.h5", {"x": np.ones((4, 2))})
    (tmp_path / "raw").write_bytes(np.ones(8).tobytes())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        if kind == "soft link":
            file["x"] = h5py.SoftLink("/y")
        elif kind == "external link":
            file["x"] = h5py.ExternalLink(secret, "/x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 2), "f8")
            layout[:] = h5py.VirtualSource(secret, "x", (4, 2))
            file.create_virtual_dataset("x", layout)
        elif kind == "text":
            file["x"] = [["a", "b"]]
        else:
            file.create_dataset("x", (4, 2), "f8", external=[(tmp_path / "raw", 0, 64)])
    with pytest.raises((DamagedInputError, MissingInputError)):
        load(f"{tmp_path / 'x.h5'}::x")


def test_examples_of_matlab_may_be_along_the_last_axis(tmp_path: Path) -> None:
    path = save(tmp_path / "x.mat", {"X": np.full((6, 7, 9), 200, np.uint8), "y": np.arange(9)})
    assert load(path).values.shape == (9, 1, 6, 7)
    alone = save(tmp_path / "z.mat", {"X": np.full((6, 7, 9), 200, np.uint8)})
    with pytest.raises(DamagedInputError, match="NHW, HWN"):
        load(alone)
    assert load(alone, layout="HWN").values.shape == (9, 1, 6, 7)


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_a_packed_file_is_read_as_what_is_in_it(
    tmp_path: Path, kinds: dict[str, bytes], kind: str
) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(kinds[kind], mtime=0))
    assert load(tmp_path / "x.gz").values.tolist() == [[1, 2], [3, 4]]


def test_a_packed_file_that_expands_without_bounds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL", 1000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(1_000_000), mtime=0))
    with pytest.raises(DamagedInputError, match="expands"):
        load(tmp_path / "x.gz")


@pytest.mark.parametrize(
    "content", [gzip.compress(b"1,2\n3,4\n", mtime=0)[:-9], b"\x1f\x8b and no more"]
)
def test_a_damaged_packed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DamagedInputError, match="damaged gzip"):
        load(tmp_path / "x.gz")


def test_an_idx_file_is_read(tmp_path: Path) -> None:
    pixels = np.full((5, 6, 7), 200, np.uint8)
    (tmp_path / "x").write_bytes(idx(pixels))
    assert load(tmp_path / "x").values.shape == (5, 1, 6, 7)


def zipped(**content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(name.replace("_", "/", 1), data)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{"layout": "ND"}, {"value_range": "0,1"}])
def test_options_of_arrays_are_refused_for_tables(tmp_path: Path, options: dict[str, str]) -> None:
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    with pytest.raises(UsageError, match="--layout and --range"):
        load(tmp_path / "x.csv", **options)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (pickle.dumps({"x": np.ones(3)}), "pickled"),
        (b"\x90\0\0\0\0\0\0\0{}", "safetensors"),
        (b"\x7fELF\0\0\0", "no format"),
        (b"PK\x03\x04 and nothing more", "zip|damaged"),
        (zipped(archive_data=b"") + b"", "neither arrays nor images"),
        (zipped(**{"t_data.pkl": b"", "t_version": b""}), "PyTorch"),
        (zipped(**{"xl_workbook.xml": b""}), "Excel"),
        (b"PAR1" + bytes(20), "Parquet"),
        (b"[[1, 2]]\n", "JSON"),
        (b"1 1:0.5 2:0.3\n", "LIBSVM"),
        (b"%PDF-1.4\n1 0 obj\n", "PDF"),
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
