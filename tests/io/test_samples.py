"""Sample files that are sound."""

import io
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arcsm_cli.errors import ArcsmError, MissingInputError, OutputError
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.samples import SampleFile, SampleWriter
from arcsm_cli.io.sink import Sink

CHAIN = [{"command": "sample", "seed": 1}]

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.h5"


def write(path: Path, samples: Any, **others: Any) -> None:
    with SampleWriter(path, np.shape(samples)[1:], CHAIN) as writer:
        writer.append(samples, **others)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@given(st.data())
def test_everything_round_trips(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("samples") / "s.h5"
    count, shape = data.draw(st.integers(0, 5)), data.draw(shapes)
    full = hnp.arrays(np.float32, (count, *shape), elements=finite)
    row = hnp.arrays(np.float32, (count,), elements=finite | st.just(float("inf")))
    written = {"samples": data.draw(full), "clean": data.draw(full), "corrupted": data.draw(full)}
    written["labels"] = data.draw(hnp.arrays(np.int64, (count,)))
    statistics = data.draw(st.dictionaries(st.sampled_from(["nll", "ä b", "x.y"]), row))
    with SampleWriter(path, shape, CHAIN) as writer:
        writer.append(**written, statistics=statistics)
    written |= {f"statistics/{name}": value for name, value in statistics.items()}
    with SampleFile(path) as file:
        assert (len(file), file.shape, file.provenance) == (count, shape, CHAIN)
        assert set(file.names) == set(written)
        for name, value in written.items():
            np.testing.assert_array_equal(file.read(0, count, name), value)


@settings(max_examples=4)
@given(st.lists(st.integers(0, 5_000), max_size=5))
def test_the_bytes_do_not_depend_on_the_batches(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("batches")
    samples, labels = numbers(5_000, 256), np.arange(5_000)
    write(folder / "whole", samples, labels=labels)
    edges = [0, *sorted(cuts), 5_000]
    with SampleWriter(folder / "parts", (256,), CHAIN) as writer:
        for start, stop in pairwise(edges):
            writer.append(samples[start:stop], labels=labels[start:stop])
    assert (folder / "whole").read_bytes() == (folder / "parts").read_bytes()


def test_the_layout_is_the_documented_one(path: Path) -> None:
    samples = numbers(3, 2)
    write(path, samples, labels=[1, 2, 3], statistics={"nll": [0.0, 1.0, 2.0]})
    with h5py.File(path) as file:
        assert file.attrs["format"] == "arcsm-samples"
        assert file.attrs["format_version"] == 1
        assert isinstance(file.attrs["provenance"], str)
        assert file["samples"].dtype == np.float32
        assert file["samples"].chunks is not None
        np.testing.assert_array_equal(file["samples"], samples)
        np.testing.assert_array_equal(file["statistics/nll"], [0, 1, 2])


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}])
def test_what_users_of_h5py_write_is_read(path: Path, options: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "arcsm-samples", "format_version": 1, "provenance": "[]"})
        file.create_dataset("samples", data=numbers(50, 20), **options)
    with SampleFile(path) as read:
        np.testing.assert_array_equal(read.read(0, 50), numbers(50, 20))


def test_a_long_chain_round_trips(path: Path) -> None:
    chain = [{"arguments": ["x" * 1000]}] * 500
    with SampleWriter(path, (2,), chain):
        pass
    with SampleFile(path) as file:
        assert file.provenance == chain


def test_a_writer_without_batches_writes_no_examples(path: Path) -> None:
    with SampleWriter(path, (1, 2), CHAIN):
        pass
    with SampleFile(path) as file:
        assert (len(file), file.shape, file.names) == (0, (1, 2), ["samples"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_tensors_of_other_types_become_float32(path: Path, dtype: torch.dtype) -> None:
    write(path, torch.ones(2, 3, dtype=dtype), labels=torch.tensor([4, 5]))
    with SampleFile(path) as file:
        assert file.read(0, 2).dtype == np.float32
        assert file.read(0, 2, "labels").tolist() == [4, 5]


def test_tensors_with_a_gradient_are_written(path: Path) -> None:
    write(path, torch.ones(2, 3, requires_grad=True))
    with SampleFile(path) as file:
        assert file.read(0, 2).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_batch_may_be_reused_after_it_is_appended(path: Path) -> None:
    batch = np.zeros((2, 2), np.float32)
    with SampleWriter(path, (2,), CHAIN) as writer:
        writer.append(batch)
        batch[:] = 1
    with SampleFile(path) as file:
        assert not file.read(0, 2).any()


def test_reading_cuts_at_the_end(path: Path) -> None:
    samples = numbers(4, 2)
    write(path, samples)
    with SampleFile(path) as file:
        for start, stop in product(range(7), range(7)):
            np.testing.assert_array_equal(file.read(start, stop), samples[start:stop])


def test_reading_a_dataset_that_is_not_there_is_a_key_error(path: Path) -> None:
    write(path, numbers(2, 2))
    with SampleFile(path) as file, pytest.raises(KeyError):
        file.read(0, 1, "clean")


def test_samples_are_read_from_standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, numbers(2, 2))
    stream = io.BytesIO(path.read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream, isatty=lambda: False))
    with SampleFile("-") as file:
        np.testing.assert_array_equal(file.read(0, 2), numbers(2, 2))


def test_a_missing_file_is_reported_as_missing(path: Path) -> None:
    with pytest.raises(MissingInputError):
        SampleFile(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_samples_that_are_not_finite_are_not_written(path: Path, value: float) -> None:
    with SampleWriter(path, (1,), CHAIN) as writer, pytest.raises(ArcsmError, match="samples"):
        writer.append(np.array([[value]]))


def test_statistics_that_are_nan_are_not_written(path: Path) -> None:
    with SampleWriter(path, (1,), CHAIN) as writer, pytest.raises(ArcsmError, match="nll"):
        writer.append(numbers(1, 1), statistics={"nll": [float("nan")]})


@pytest.mark.parametrize(
    "others",
    [
        {"clean": np.zeros((2, 3))},
        {"corrupted": np.zeros((3, 2))},
        {"labels": [1]},
        {"labels": [[1], [2]]},
        {"labels": [1.5, 2.5]},
        {"statistics": {"nll": [1.0]}},
        {"statistics": {"": [1.0, 2.0]}},
        {"statistics": {"a/b": [1.0, 2.0]}},
        {"statistics": {"..": np.zeros((2, 0))}},
    ],
)
def test_datasets_that_do_not_fit_are_not_written(path: Path, others: dict[str, Any]) -> None:
    with (
        SampleWriter(path, (2,), CHAIN) as writer,
        pytest.raises(ValueError, match=r"shape|label|name"),
    ):
        writer.append(numbers(2, 2), **others)


@pytest.mark.parametrize("others", [{}, {"labels": [1], "clean": np.zeros((1, 2))}])
def test_batches_must_give_the_same_datasets(path: Path, others: dict[str, Any]) -> None:
    with SampleWriter(path, (2,), CHAIN) as writer:
        writer.append(numbers(1, 2), labels=[1])
        with pytest.raises(ValueError, match="differ"):
            writer.append(numbers(1, 2), **others)


WRITE_MUCH = """
import sys
import numpy as np
from arcsm_cli.errors import OutputError
from arcsm_cli.io.atomic import atomic_output
from arcsm_cli.io.samples import SampleWriter

try:
    with atomic_output(sys.argv[1]) as path, SampleWriter(path, (64,), []) as writer:
        for _ in range(int(sys.argv[2])):
            writer.append(np.ones((100, 64)), labels=np.arange(100))
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("batches", [12, 1000])
def test_a_full_disk_ends_the_program_in_order(small_disk: Path, batches: int) -> None:
    # A process of its own, since HDF5 may take it down on exit.
    command = [sys.executable, "-c", WRITE_MUCH, str(small_disk / "s.h5"), str(batches)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == OutputError.exit_code
    assert ended.stderr == ""
    assert "No space left" in ended.stdout
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("allowed", [0, 1, 2, 5, 20, 39])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    real, left = os.pwrite, [allowed]

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)

    def fill() -> None:
        with atomic_output(str(tmp_path / "s.h5")) as path, SampleWriter(path, (64,), []) as writer:
            for _ in range(400):
                writer.append(np.ones((100, 64)))

    with pytest.raises(OutputError, match="No space left"):
        fill()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("method", ["write", "seek", "tell", "truncate", "flush"])
def test_an_interrupt_within_hdf5_waits_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real = getattr(Sink, method)

    def interrupted(self: Sink, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)

    monkeypatch.setattr(Sink, method, interrupted)

    def fill() -> None:
        with atomic_output(str(tmp_path / "s.h5")) as path, SampleWriter(path, (64,), []) as writer:
            writer.append(np.ones((100, 64)))

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert os.listdir(tmp_path) == []


def test_samples_are_written_from_any_thread(path: Path) -> None:
    thread = threading.Thread(target=write, args=(path, numbers(2, 2)))
    thread.start()
    thread.join()
    with SampleFile(path) as file:
        assert len(file) == 2


def test_double_precision_and_names_of_columns_come_back(path: Path) -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=(5, 2))
    with SampleWriter(path, (2,), CHAIN, ("a", "b, c")) as writer:
        writer.append(values[:0].astype(np.float32))  # an empty part says nothing of the type
        writer.append(values)
    with SampleFile(path) as file:
        assert (file.wide, file.columns) == (True, ("a", "b, c"))
        np.testing.assert_array_equal(file.read(0, 5), values)
