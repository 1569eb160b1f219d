"""Sample files that are damaged, of another kind, or made to harm."""

import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import isolated
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.io.samples import SampleFile, SampleWriter

Change = Callable[[h5py.File], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.h5"


def build(path: Path, change: Change) -> Path:
    """A small file of others that is sound, but for the change."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "arcsm-samples", "format_version": 1, "provenance": "[]"})
        file["samples"] = np.zeros((4, 2), np.float32)
        change(file)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "s.h5"
    with SampleWriter(path, (2,), [{"command": "sample"}]) as writer:
        writer.append(
            np.ones((8, 2), np.float32), labels=np.arange(8), statistics={"nll": np.zeros(8)}
        )
    return path.read_bytes()


def read_all(path: Path) -> None:
    with SampleFile(path) as file:
        for name in file.names:
            file.read(0, len(file), name)


def refusal(path: Path) -> str:
    with pytest.raises(DamagedInputError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 300 + len(str(path))
    return message


def test_the_helper_builds_sound_files(path: Path) -> None:
    read_all(build(path, lambda file: None))


@pytest.mark.parametrize("part", [0, 7, 8, 9, 40, 100, 0.3, 0.5, 0.9, -8, -1])
def test_a_truncated_file_is_refused(path: Path, sound: bytes, part: float) -> None:
    path.write_bytes(sound[: int(len(sound) * part) if 0 < part < 1 else int(part)])
    refusal(path)


def test_changed_numbers_are_noticed(path: Path, sound: bytes) -> None:
    ones = struct.pack("<4f", 1, 1, 1, 1)
    assert ones in sound
    path.write_bytes(sound.replace(ones, struct.pack("<4f", 1, 1, 1, 2), 1))
    refusal(path)


def test_a_broken_heap_does_not_hang_the_reader(
    path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 0.5)
    content = bytearray(sound)
    heap = content.index(b"GCOL")
    content[heap + 24 : heap + 32] = b"\xff" * 8
    path.write_bytes(content)
    refusal(path)


def test_files_of_other_formats_are_called_what_they_are(path: Path) -> None:
    path.touch()
    assert "an empty file" in refusal(path)
    path.write_bytes(pickle.dumps({"samples": [1.0]}))
    assert "a pickled file" in refusal(path)
    save_checkpoint(path, Checkpoint("ar-csm", {}, {}, [], {}))
    assert "a safetensors file" in refusal(path)


def attribute(name: str, value: object) -> Change:
    def change(file: h5py.File) -> None:
        file.attrs.pop(name, None)
        if value is not None:
            file.attrs[name] = value

    return change


def put(name: str, value: Any) -> Change:
    """Put a link, or a dataset of these values, in place of what is there."""

    def change(file: h5py.File) -> None:
        with suppress(KeyError):
            del file[name]
        file[name] = value

    return change


def made(name: str, *given: Any, **options: Any) -> Change:
    """Declare a dataset without its values."""

    def change(file: h5py.File) -> None:
        with suppress(KeyError):
            del file[name]
        file.create_dataset(name, *given, **options)

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 2), np.float32)
    layout[:] = h5py.VirtualSource("o.h5", "samples", (4, 2))
    file.create_virtual_dataset("clean", layout)


def in_itself(file: h5py.File) -> None:
    file["statistics"] = file["/"]


def crowded(file: h5py.File) -> None:
    group = file.create_group("statistics")
    for i in range(1025):
        group[str(i)] = file["samples"]


def odd_float(file: h5py.File) -> None:
    odd = h5t.IEEE_F32LE.copy()
    odd.set_ebias(100)
    h5d.create(file.id, b"clean", odd, h5s.create_simple((4, 2)))


def half_written(compression: str | None) -> Change:
    def change(file: h5py.File) -> None:
        del file["samples"]
        options: dict[str, Any] = {"chunks": (10, 2), "compression": compression}
        file.create_dataset("samples", (100, 2), np.float32, **options)[:50] = 1

    return change


def bomb(file: h5py.File) -> None:
    del file["samples"]
    options: dict[str, Any] = {"chunks": (1, 1 << 20), "compression": "gzip"}
    data = file.create_dataset("samples", (20, 1 << 20), np.float32, **options)
    for i in range(20):
        data[i] = 0


def by_plugin(file: h5py.File) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((4, 2))
    properties.set_filter(32_015, 1, (3,))  # optional, so that it need not be there
    h5d.create(file.id, b"clean", h5t.IEEE_F32LE, h5s.create_simple((4, 2)), properties)


def not_utf8(place: str) -> Change:
    def change(file: h5py.File) -> None:
        file.require_group("statistics")
        h5d.create(file[place].id, b"\xff", h5t.STD_I8LE, h5s.create_simple((4,)))

    return change


FLOATS = np.zeros((4, 2), np.float32)
EMPTY = h5py.Empty("i8")
VALUES: dict[str, list[Any]] = {
    "format": [None, "other", "\x1b[31m" + "x" * 10_000, b"\xff", 1, ["a", "b"]],
    "format_version": [None, 0, -1, 2, "1", 1.0, [1, 1], EMPTY],
    "provenance": [None, "", "{}", "[1]", 1, "[" * 10_000, " " * (5 << 20), EMPTY],
    "columns": ['["a"]', '["a","a"]', '["a",1]', '{"a":"b"}', "[", '["a",""]', 1],
}
LINKS = [h5py.SoftLink("/samples"), h5py.ExternalLink("o.h5", "/samples")]
TYPES = [
    *("f2", "f16", "i4", "c8", "bool", "S4", [("a", "f4")], ("f4", (2,))),
    *(h5py.string_dtype(), h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype(np.float32)),
    *(h5py.opaque_dtype(np.dtype("M8[s]")), h5py.enum_dtype({"a": 1})),
]
OTHER_SHAPES = {
    "clean": [(4, 3), (3, 2)],
    "corrupted": [(4, 2, 1)],
    "labels": [(3,), (4, 1)],
    "statistics/nll": [(5,)],
    "samples": [(), (4,), (4, 0), (1,) * 9],
}
VAST = [(1 << 40, 2), (4, 1 << 40), (1 << 59, 1), (1 << 20, 1 << 20)]
PACKED: list[dict[str, Any]] = [{}, {"chunks": (4, 1)}, {"chunks": (4, 1), "compression": "gzip"}]

HOSTILE: dict[str, Change] = {
    **{
        f"{value!r:.12} as {name}": attribute(name, value)
        for name, values in VALUES.items()
        for value in values
    },
    "no samples": lambda file: file.pop("samples"),
    **{
        f"{name} is a {type(link).__name__}": put(name, link)
        for name in ("samples", "clean", "other", "statistics", "statistics/nll")
        for link in LINKS
    },
    "a virtual dataset": virtual,
    "storage in another file": made("clean", (4, 2), np.float32, external=[("raw", 0, 32)]),
    "a group in place of a dataset": lambda file: file.create_group("clean"),
    "a dataset in place of a group": put("statistics", FLOATS[:, 0]),
    "a dataset that has no place": put("other", FLOATS),
    "a name that is no plain text": put("\x1b[31m\n" + "x" * 1000, FLOATS),
    "a name that is not UTF-8": not_utf8("/"),
    "a statistic whose name is not UTF-8": not_utf8("statistics"),
    "deep groups": lambda file: file.create_group("a" + "/a" * 500),
    "deep statistics": lambda file: file.create_group("statistics/a" + "/a" * 500),
    "a group that holds itself": in_itself,
    "a crowded group": crowded,
    **{f"samples of {kind}": made("samples", (4, 2), np.dtype(kind)) for kind in TYPES},
    "an odd float of four bytes": odd_float,
    **{f"labels of {kind}": put("labels", np.zeros(4, kind)) for kind in (np.float32, "u8", "S1")},
    **{
        f"{name} of the shape {shape}": put(
            name, np.zeros(shape, np.int64 if name == "labels" else np.float32)
        )
        for name, shapes in OTHER_SHAPES.items()
        for shape in shapes
    },
    "samples of no shape": put("samples", h5py.Empty(np.float32)),
    **{
        f"{shape} declared {how}": made("samples", shape, np.float32, **how)
        for shape in VAST
        for how in PACKED
    },
    "chunks that were never written": half_written(None),
    "compressed chunks that were never written": half_written("gzip"),
    "a compression bomb": bomb,
    "a filter that needs a plugin": by_plugin,
    **{
        f"{name} of {value}": put(name, np.full((4, 2), value, np.float32))
        for name in ("samples", "clean", "corrupted")
        for value in (np.nan, np.inf)
    },
    "statistics of nan": put("statistics/nll", np.full(4, np.nan, np.float32)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(path: Path, name: str) -> None:
    with h5py.File(path.with_name("o.h5"), "w") as other:
        other["samples"] = FLOATS
    path.with_name("raw").write_bytes(bytes(32))
    refusal(build(path, HOSTILE[name]))


def test_a_large_hidden_part_is_refused(path: Path) -> None:
    build(path, lambda file: None)
    with h5py.File(path, "a") as file:
        file.create_dataset("hidden", (65 << 20,), np.uint8, data=np.zeros(65 << 20, np.uint8))
        del file["hidden"]
        file.create_dataset("clean", data=FLOATS)
    with open(path, "r+b") as raw:
        raw.seek(0, 2)
        raw.truncate(max(raw.tell(), 66 << 20))
    refusal(path)


def test_statistics_may_be_infinite(path: Path) -> None:
    read_all(build(path, put("statistics/nll", np.full(4, np.inf, np.float32))))


def test_nan_is_noticed_in_the_block_that_holds_it(path: Path) -> None:
    values = FLOATS.copy()
    values[3] = np.nan
    with SampleFile(build(path, put("samples", values))) as file:
        assert file.read(0, 3).shape == (3, 2)
        with pytest.raises(DamagedInputError, match="'samples' holds NaN"):
            file.read(3, 4)
