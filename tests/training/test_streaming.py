"""Training data that stay in HDF5 files: the same examples as in memory, read in blocks."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from arcsm_cli.data import row_files
from arcsm_cli.data.given import conditions_of, told
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.row_files import RowFiles
from arcsm_cli.data.several import together
from arcsm_cli.data.spec import load_training
from arcsm_cli.data.streamed import StreamedRows, is_streamed
from arcsm_cli.distributed.launch import Launch
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import ArcsmError, DamagedInputError, UsageError
from arcsm_cli.io.samples import SampleWriter
from arcsm_cli.training import batches
from arcsm_cli.training.batches import StreamedBatches, batches_of

COUNT = 600


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some 20 rows, a pool of some 200."""
    monkeypatch.setattr(row_files, "BLOCK", 20 * 48)
    monkeypatch.setattr(batches, "POOL", 200 * 48)


def _images(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Files as other programs write them, and this one."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    images, vectors = _images(rng), rng.normal(size=(COUNT, 6))
    vectors[:, 1] += 1e9

    def write(kind: str) -> str:
        if kind == "shards":
            for i, part in enumerate(np.split(images, 3)):
                _write(tmp_path / f"part{i}.h5", images=part, labels=np.split(labels, 3)[i])
            return str(tmp_path / "part*.h5")
        path = tmp_path / f"{kind}.h5"
        if kind == "ours":
            with SampleWriter(path, (3, 4, 4), [{"command": "sample"}]) as writer:
                writer.append(images.transpose(0, 3, 1, 2) / np.float32(255), labels=labels)
        elif kind == "vectors":
            _write(path, x=vectors)
        elif kind == "compressed":
            _write(path, images=images, labels=labels, chunks=(50, 2, 4, 3), compression="gzip")
        else:
            _write(path, images=images, labels=labels)
        return str(path)

    return write


def _write(path: Path, chunks: Any = None, compression: Any = None, **arrays: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            packed = {"chunks": chunks, "compression": compression} if name == "images" else {}
            file.create_dataset(name, data=array, **packed)


@pytest.mark.parametrize(
    ("kind", "split", "choices"),
    [
        ("images", "", {}),
        ("images", ":all", {"limit": 70}),
        ("images", ":test", {"shuffle": 30}),
        ("images", "", {"given": "labels", "resize": 2}),
        ("compressed", "", {"given": "labels"}),
        ("shards", "", {"given": "labels"}),
        ("vectors", "", {"drop": "3"}),
        ("vectors", "", {"given": "2"}),
        ("ours", "", {"given": "labels"}),
        ("ours", ":valid", {}),
    ],
)
def test_examples_in_files_are_those_in_memory(
    kind: str, split: str, choices: dict[str, Any], written: Callable[..., str]
) -> None:
    spec, options = written(kind) + split, DataOptions(**choices)
    ours, theirs = (load_training(spec, options, stream=stream) for stream in (True, False))
    assert is_streamed(ours.train)
    assert ours[2:] == theirs[2:]
    conditions = conditions_of(ours.train, ours.valid)
    assert conditions == conditions_of(theirs.train, theirs.valid)
    for streamed, held in zip(ours[:2], theirs[:2], strict=True):
        streamed, held = told(streamed, conditions), told(held, conditions)
        assert (len(streamed), streamed.shape, streamed.name) == (len(held), held.shape, held.name)
        assert streamed.columns == held.columns
        if choices.get("shuffle"):  # which has an order of its own in memory
            continue
        assert streamed.content() == held.content()
        assert np.array_equal(streamed.sketch(), held.sketch())
        assert torch.equal(streamed.rows(3, 40).given, held.rows(3, 40).given)
        for a, b in zip(streamed.moments(), held.moments(), strict=True):
            assert torch.allclose(a, b, rtol=1e-6)
        some = torch.tensor([5, 2, 2, 30]) % len(held)
        assert torch.equal(streamed.select(some).values, held.select(some).values)


@pytest.fixture
def data(written: Callable[..., str]) -> Iterator[StreamedRows]:
    with closing(RowFiles([written("images")], "", DataOptions(), "images")) as files:
        yield StreamedRows(files, files.found.splits < 2, "images")


def rows(x: Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


def test_an_epoch_visits_every_example_once_but_for_the_ragged_end(data: StreamedRows) -> None:
    found = batches_of(data, 16, 0, SOLO)
    epochs = [
        [
            row
            for step in range(len(data) // 16)
            for row in rows(found.at(first + step, whole=True).x)
        ]
        for first in (0, len(data) // 16)
    ]
    everything = set(rows(data.stored(slice(None)).x))
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == len(data) // 16 * 16
        assert set(epoch) <= everything
    assert epochs[0] != epochs[1]


def test_a_step_is_a_function_of_the_seed_and_its_number(data: StreamedRows) -> None:
    forwards = StreamedBatches(data, 16, 0, SOLO)
    seen = [forwards.at(step, whole=True).x for step in range(80)]
    for step in (79, 3, 40):
        assert torch.equal(StreamedBatches(data, 16, 0, SOLO).at(step, whole=True).x, seen[step])
    assert not torch.equal(StreamedBatches(data, 16, 1, SOLO).at(3, whole=True).x, seen[3])


def test_neighbours_in_the_file_are_mixed_beyond_blocks(data: StreamedRows) -> None:
    places = {row: i for i, row in enumerate(rows(data.stored(slice(None)).x))}
    found = StreamedBatches(data, 16, 0, SOLO).at(2, whole=True).x
    assert np.ptp([places[row] for row in rows(found)]) > len(data) / 3


def test_ranks_get_their_part_of_every_batch_and_read_little_else(
    data: StreamedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = StreamedBatches(data, 16, 0, SOLO)
    steps = range(len(data) // 16)
    expected = [whole.at(step, whole=True).x for step in steps]
    read: list[int] = []
    plain = RowFiles.read

    def counted(self: RowFiles, start: int, stop: int) -> Tensor:
        read.append(stop - start)
        return plain(self, start, stop)

    monkeypatch.setattr(RowFiles, "read", counted)
    for rank in range(4):
        ranks = Ranks(Launch(rank=rank, size=4))
        own, part = StreamedBatches(data, 16, 0, ranks), ranks.part(16)
        read.clear()
        for step, x in zip(steps, expected, strict=True):
            assert torch.equal(own.at(step, whole=False).x[part], x[part])
        assert sum(read) < 0.45 * COUNT


def test_files_that_differ_are_refused_by_name(written: Callable[..., str], tmp_path: Path) -> None:
    spec = together([written("images"), written("vectors")])
    for stream in (True, False):
        with pytest.raises(DamagedInputError, match="vectors"):
            load_training(spec, DataOptions(), stream=stream)
    with pytest.raises(UsageError, match="ours"):
        load_training(together([written("vectors"), written("ours")]), DataOptions(layout="ND"))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("bad", [np.nan, 3.0])
def test_a_value_that_is_none_is_found_before_training(
    bad: float, stream: bool, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).random((300, 4, 5)).astype(np.float32)
    values[222, 1, 2] = bad
    _write(tmp_path / "x.h5", images=values)
    with pytest.raises(ArcsmError, match=r"222, 1|222, 0, 1|--range"):
        load_training(str(tmp_path / "x.h5"), DataOptions(), stream=stream)


def test_a_file_that_fits_is_held_and_one_that_does_not_is_streamed(
    written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = written("images")
    assert not is_streamed(load_training(spec, DataOptions(), stream=None).train)
    monkeypatch.setattr("arcsm_cli.data.spec.MOST_HELD", 0.0)
    assert is_streamed(load_training(spec, DataOptions(), stream=None).train)
    with pytest.raises(UsageError, match="--stream"):
        load_training("digits", DataOptions(), stream=True)
