"""Data in batches: the same as data in memory, whatever they come from."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.data.stream import Examples, SampleStream, open_stream
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleFile, SampleWriter

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, rng: np.random.Generator) -> Write:
    """Writes samples of a shape, a little noisy, with a chain of one entry."""

    def write(shape: tuple[int, ...], count: int = 23, name: str = "s.h5") -> Path:
        path = tmp_path / name
        with SampleWriter(path, shape, [{"command": "train"}]) as writer:
            writer.append(rng.normal(0.5, 0.4, (count, *shape)))
        return path

    return write


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes a file standard input, once."""
    opened: list[Any] = []

    def become(path: Path) -> None:
        opened.append(path.open())
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield become
    for file in opened:
        file.close()


def whole(examples: Examples, size: int = 7) -> Tensor:
    return torch.cat([batch.x for batch in examples.batches(size)])


def agree(stream: Examples, data: Dataset) -> None:
    """Everything that a stream tells is what loading gives."""
    assert (stream.name, stream.shape, stream.kind) == (data.name, data.shape, data.kind)
    assert (len(stream), stream.digest) == (len(data), data.digest)
    assert stream.source == data.source
    assert torch.equal(whole(stream), whole(data))


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), (3, 8, 8), (4, 5, 6)])
def test_a_sample_file_streamed_is_the_file_loaded(shape: tuple[int, ...], write: Write) -> None:
    path, options = str(write(shape)), DataOptions()
    data = load_data(path, options, default_split="test")
    with open_stream(path, options, default_split="test") as stream:
        assert isinstance(stream, SampleStream)
        agree(stream, data)


@pytest.mark.parametrize("options", [{"layout": "NHWC"}, {"value_range": "-1,1"}], ids=str)
def test_options_of_files_of_others_are_refused_streamed_and_loaded(
    options: dict[str, Any], write: Write
) -> None:
    path = str(write((1, 8, 8)))
    with pytest.raises(UsageError, match="--layout and --range"):
        load_data(path, DataOptions(**options), default_split="test")
    stream = open_stream(path, DataOptions(**options), default_split="test")
    with pytest.raises(UsageError, match="--layout and --range"), stream:
        pass


@pytest.mark.parametrize(
    "options",
    [{"limit": 5}, {"limit": 99}, {"resize": 4}, {"center_crop": 6, "resize": 3, "limit": 9}],
    ids=str,
)
def test_options_apply_to_a_stream_as_to_loaded_data(options: Any, write: Write) -> None:
    path = str(write((1, 8, 8)))
    data = load_data(path, DataOptions(**options), default_split="test")
    with open_stream(path, DataOptions(**options), default_split="test") as stream:
        agree(stream, data)


@pytest.mark.parametrize(
    "spec", ["digits", "digits:train", "gaussian:3", "uniform", "SAMPLES:test"]
)
def test_other_sources_are_loaded_and_look_the_same(spec: str, write: Write) -> None:
    spec = spec.replace("SAMPLES", str(write((2,), 30)))
    options = DataOptions(limit=10)
    data = load_data(spec, options, default_split="test", like=(1, 2, 2))
    with open_stream(spec, options, default_split="test", like=(1, 2, 2)) as stream:
        agree(stream, data)


@pytest.mark.parametrize("kind", ["npz", "npy", "csv"])
def test_other_files_look_the_same(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    path, values = tmp_path / f"x.{kind}", rng.normal(size=(9, 2))
    if kind == "csv":
        np.savetxt(path, values, delimiter=",")
    else:
        {"npz": np.savez, "npy": np.save}[kind](path, values)
    data = load_data(str(path), DataOptions(), default_split="test")
    with open_stream(str(path), DataOptions(), default_split="test") as stream:
        agree(stream, data)


@pytest.mark.parametrize("kind", ["samples", "array"])
def test_standard_input_is_spooled(
    kind: str, write: Write, stdin: Callable[[Path], None], tmp_path: Path
) -> None:
    path = write((2,))
    if kind == "array":
        path = tmp_path / "x.npy"
        np.save(path, np.ones((5, 2)))
    stdin(path)
    with open_stream("-", DataOptions(), default_split="test") as stream:
        data = load_data(str(path), DataOptions(), default_split="test")
        assert (stream.name, stream.digest) == ("-", sha256_file(path))
        assert torch.equal(whole(stream), whole(data))


@pytest.mark.parametrize("kind", ["samples", "array"])
def test_a_named_pipe_is_read_once(kind: str, write: Write, tmp_path: Path) -> None:
    path, pipe = write((2,)), tmp_path / "pipe"
    if kind == "array":
        path = tmp_path / "x.npy"
        np.save(path, np.ones((5, 2)))
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    with open_stream(str(pipe), DataOptions(), default_split="test") as stream:
        data = load_data(str(path), DataOptions(), default_split="test")
        assert stream.name == str(pipe)
        assert torch.equal(whole(stream), whole(data))
    writer.join()


def test_a_data_set_s_name_wins_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("1,2\n")
    with open_stream("digits", DataOptions(), default_split="test") as stream:
        assert stream.shape == (1, 8, 8)
    with open_stream("./digits", DataOptions(), default_split="test") as stream:
        assert stream.shape == (2,)


def test_a_stream_holds_one_batch_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = SampleFile.read

    def reading(self: SampleFile, start: int, stop: int, name: str = "samples") -> Any:
        block = original(self, start, stop, name)
        read.append(len(block))
        return block

    monkeypatch.setattr(SampleFile, "read", reading)
    with open_stream(str(write((2,))), DataOptions(), default_split="test") as stream:
        assert [batch.size for batch in stream.batches(5)] == [5, 5, 5, 5, 3]
    assert max(read) == 5


def test_the_file_is_closed_afterwards(write: Write) -> None:
    with open_stream(str(write((2,))), DataOptions(), default_split="test") as stream:
        pass
    with pytest.raises(DamagedInputError):
        whole(stream)


@pytest.mark.parametrize(
    ("shape", "count", "options", "error"),
    [
        ((2,), 0, {}, DamagedInputError),
        ((3, 4), 5, {}, DamagedInputError),
        ((2,), 5, {"resize": 4}, UsageError),
        ((2,), 5, {"center_crop": 4}, UsageError),
    ],
)
def test_what_cannot_be_loaded_is_refused_as_loading_does(
    shape: tuple[int, ...], count: int, options: Any, error: Any, write: Write
) -> None:
    path = str(write(shape, count))
    with pytest.raises(error) as loaded:
        load_data(path, DataOptions(**options), default_split="test")
    with (
        pytest.raises(error) as streamed,
        open_stream(path, DataOptions(**options), default_split="test"),
    ):
        pass
    assert str(streamed.value) == str(loaded.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingInputError, match=r"none\.h5"),
        open_stream(str(tmp_path / "none.h5"), DataOptions(), default_split="test"),
    ):
        pass


def test_a_damaged_block_is_found_when_it_is_read(write: Write) -> None:
    path = write((64,), 3000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with (
        open_stream(str(path), DataOptions(), default_split="test") as stream,
        pytest.raises(DamagedInputError, match=r"s\.h5"),
    ):
        whole(stream)
