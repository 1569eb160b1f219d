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
from hypothesis import given, settings
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import isolated
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.io.samples import SampleFile, SampleWriter

ATTRIBUTES: dict[str, Any] = {"format": "arcsm-samples", "format_version": 1, "provenance": "[]"}
Build = Callable[[h5py.File], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.h5"


def build(path: Path, change: Build, *, samples: bool = True, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in (ATTRIBUTES | attributes).items():
            if value is not None:
                file.attrs[key] = value
        if samples:
            file["samples"] = np.zeros((4, 2), np.float32)
        change(file)
    return path


def nothing(_: h5py.File) -> None:
    pass


def sound(folder: Path) -> bytes:
    path = folder / "sound.h5"
    with SampleWriter(path, (2,), [{"command": "sample"}]) as writer:
        writer.append(np.ones((8, 2)), labels=np.arange(8), statistics={"nll": np.zeros(8)})
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
    read_all(build(path, nothing))


@pytest.mark.parametrize("part", [0, 1, 7, 8, 9, 16, 40, 100, 0.1, 0.3, 0.5, 0.7, 0.9, -8, -1])
def test_a_truncated_file_is_refused(path: Path, part: float) -> None:
    content = sound(path.parent)
    path.write_bytes(content[: int(len(content) * part) if 0 < part < 1 else int(part)])
    refusal(path)


def test_an_empty_file_is_called_empty(path: Path) -> None:
    path.touch()
    assert "an empty file" in refusal(path)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, signed: bool
) -> None:
    path = tmp_path_factory.mktemp("random") / "s.h5"
    path.write_bytes((b"\x89HDF\r\n\x1a\n" if signed else b"") + content)
    refusal(path)


@settings(deadline=None)
@given(st.data())
def test_flipped_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(sound(folder))
    places = [i for i, byte in enumerate(content) if byte]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    (folder / "s.h5").write_bytes(content)
    with suppress(DamagedInputError):
        read_all(folder / "s.h5")


def test_flipped_numbers_are_noticed(path: Path) -> None:
    content = sound(path.parent)
    ones = struct.pack("<4f", 1, 1, 1, 1)
    assert ones in content
    path.write_bytes(content.replace(ones, struct.pack("<4f", 1, 1, 1, 2), 1))
    refusal(path)


def test_a_broken_heap_does_not_hang_the_reader(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 0.5)
    content = bytearray(sound(path.parent))
    heap = content.index(b"GCOL")
    content[heap + 24 : heap + 32] = b"\xff" * 8
    path.write_bytes(content)
    refusal(path)


def test_a_pickled_file_is_called_pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"samples": [1.0]}))
    assert "a pickled file" in refusal(path)


def test_a_checkpoint_is_called_one(path: Path) -> None:
    save_checkpoint(path, Checkpoint("ar-csm", {}, {}, [], {}))
    assert "a safetensors file (arcsm's checkpoints are)" in refusal(path)


@pytest.mark.parametrize(
    "found", [None, "other", "\x1b[31m" + "x" * 10_000, b"\xff", 1, ["a", "b"]]
)
def test_hdf5_files_of_others_are_refused(path: Path, found: object) -> None:
    assert "format" in refusal(build(path, nothing, format=found))


def test_a_future_version_asks_for_an_upgrade(path: Path) -> None:
    assert "upgrade" in refusal(build(path, nothing, format_version=2))


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.0, [1, 1], h5py.Empty("i8")])
def test_a_version_that_is_no_number_is_refused(path: Path, version: object) -> None:
    assert "format_version" in refusal(build(path, nothing, format_version=version))


@pytest.mark.parametrize("chain", [None, "", "{}", "[1]", 1, "[" * 10_000, h5py.Empty("S1")])
def test_provenance_that_is_no_chain_is_refused(path: Path, chain: object) -> None:
    assert "provenance" in refusal(build(path, nothing, provenance=chain))


def test_oversized_provenance_is_refused(path: Path) -> None:
    assert "provenance" in refusal(build(path, nothing, provenance=" " * (65 << 20)))


def test_a_file_without_samples_is_refused(path: Path) -> None:
    assert "no dataset 'samples'" in refusal(build(path, nothing, samples=False))


@pytest.mark.parametrize("name", ["samples", "clean", "other", "statistics"])
@pytest.mark.parametrize("link", [h5py.SoftLink("/samples"), h5py.ExternalLink("o.h5", "/samples")])
def test_links_that_lead_elsewhere_are_refused(path: Path, name: str, link: object) -> None:
    with h5py.File(path.with_name("o.h5"), "w") as other:
        other["samples"] = np.zeros((4, 2), np.float32)

    def change(file: h5py.File) -> None:
        file.pop(name, None)
        file[name] = link

    assert "link" in refusal(build(path, change))


def test_links_among_the_statistics_are_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file.create_group("statistics")["nll"] = h5py.ExternalLink("o.h5", "/samples")

    assert "an external link" in refusal(build(path, change))


def test_a_virtual_dataset_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 2), np.float32)
        layout[:] = h5py.VirtualSource("o.h5", "samples", (4, 2))
        file.create_virtual_dataset("clean", layout)

    assert "virtual" in refusal(build(path, change))


def test_external_storage_is_refused(path: Path) -> None:
    path.with_name("raw").write_bytes(bytes(32))

    def change(file: h5py.File) -> None:
        file.create_dataset("clean", (4, 2), np.float32, external=[("raw", 0, 32)])

    assert "another file" in refusal(build(path, change))


def test_a_group_in_place_of_a_dataset_is_refused(path: Path) -> None:
    assert "not a dataset" in refusal(build(path, lambda file: file.create_group("clean")))


def test_a_dataset_in_place_of_a_group_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["statistics"] = np.zeros(4, np.float32)

    assert "not a group" in refusal(build(path, change))


@pytest.mark.parametrize("place", ["a" + "/a" * 500, "statistics/a" + "/a" * 500])
def test_deep_groups_are_refused(path: Path, place: str) -> None:
    refusal(build(path, lambda file: file.create_group(place)))


def test_a_group_that_holds_itself_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["statistics"] = file["/"]

    refusal(build(path, change))


def test_a_crowded_group_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        group = file.create_group("statistics")
        for i in range(1025):
            group[str(i)] = file["samples"]

    assert "more than 1024" in refusal(build(path, change))


@pytest.mark.parametrize(
    "dtype",
    [
        *("f8", "f2", "i4", "c8", "bool", "S4", [("a", "f4")], ("f4", (2,))),
        *(h5py.string_dtype(), h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype(np.float32)),
        *(h5py.opaque_dtype(np.dtype("M8[s]")), h5py.enum_dtype({"a": 1})),
    ],
    ids=str,
)
def test_types_other_than_float32_are_refused(path: Path, dtype: Any) -> None:
    def change(file: h5py.File) -> None:
        file.create_dataset("samples", (4, 2), np.dtype(dtype))

    assert "'samples' is not of float32" in refusal(build(path, change, samples=False))


def test_an_odd_float_of_four_bytes_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        odd = h5t.IEEE_F32LE.copy()
        odd.set_ebias(100)
        h5d.create(file.id, b"clean", odd, h5s.create_simple((4, 2)))

    assert "not of float32" in refusal(build(path, change))


@pytest.mark.parametrize(
    "data", [np.zeros(4, np.float32), np.zeros(4, np.uint64), np.zeros(4, "S1")]
)
def test_labels_other_than_integers_are_refused(path: Path, data: Any) -> None:
    def change(file: h5py.File) -> None:
        file["labels"] = data

    assert "not of integers" in refusal(build(path, change))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("clean", (4, 3)),
        ("clean", (3, 2)),
        ("corrupted", (4, 2, 1)),
        ("labels", (3,)),
        ("labels", (4, 1)),
        ("statistics/nll", (5,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(path: Path, name: str, shape: tuple[int, ...]) -> None:
    def change(file: h5py.File) -> None:
        file[name] = np.zeros(shape, np.int64 if name == "labels" else np.float32)

    assert "does not fit" in refusal(build(path, change))


@pytest.mark.parametrize("shape", [(), (4,), (4, 0), (1,) * 9])
def test_samples_must_be_a_list_of_examples(path: Path, shape: tuple[int, ...]) -> None:
    def change(file: h5py.File) -> None:
        file["samples"] = np.zeros(shape, np.float32)

    refusal(build(path, change, samples=False))


def test_a_dataset_of_nothing_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["samples"] = h5py.Empty(np.float32)

    assert "no axes" in refusal(build(path, change, samples=False))


@pytest.mark.parametrize("shape", [(1 << 40, 2), (4, 1 << 40), (1 << 59, 1), (1 << 20, 1 << 20)])
@pytest.mark.parametrize("options", [{}, {"chunks": (4, 1)}, {"compression": "gzip"}])
def test_more_data_than_the_file_holds_are_refused(
    path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    options = options | ({"chunks": (4, 1)} if options else {})

    def change(file: h5py.File) -> None:
        file.create_dataset("samples", shape, np.float32, **options)

    refusal(build(path, change, samples=False))


def test_chunks_that_were_never_written_are_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        data = file.create_dataset("samples", (100, 2), np.float32, chunks=(10, 2))
        data[:50] = 1

    assert "incomplete" in refusal(build(path, change, samples=False))


def test_compressed_chunks_that_were_never_written_are_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        data = file.create_dataset(
            "samples", (100, 2), np.float32, chunks=(10, 2), compression="gzip"
        )
        data[:50] = 1

    assert "incomplete" in refusal(build(path, change, samples=False))


def test_a_compression_bomb_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        data = file.create_dataset(
            "samples", (40, 1 << 20), np.float32, chunks=(1, 1 << 20), compression="gzip"
        )
        for i in range(40):
            data[i] = 0

    assert "unpack" in refusal(build(path, change, samples=False))


def test_filters_that_need_plugins_are_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk((4, 2))
        properties.set_filter(32_015, 1, (3,))  # optional, so that it need not be there
        h5d.create(file.id, b"clean", h5t.IEEE_F32LE, h5s.create_simple((4, 2)), properties)

    assert "filter" in refusal(build(path, change))


def test_a_large_hidden_part_is_refused(path: Path) -> None:
    build(path, nothing)
    with h5py.File(path, "a") as file:
        file.create_dataset("hidden", (65 << 20,), np.uint8, data=np.zeros(65 << 20, np.uint8))
        del file["hidden"]
        file.create_dataset("clean", data=np.zeros((4, 2), np.float32))
    with open(path, "r+b") as raw:
        raw.seek(0, 2)
        raw.truncate(max(raw.tell(), 66 << 20))
    assert "bytes long" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["samples", "clean", "corrupted"])
def test_numbers_that_are_not_finite_are_refused_by_name(
    path: Path, name: str, value: float
) -> None:
    def change(file: h5py.File) -> None:
        file.pop(name, None)
        file[name] = np.full((4, 2), value, np.float32)

    assert f"'{name}' holds NaN" in refusal(build(path, change))


def test_statistics_that_are_nan_are_refused_by_name(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["statistics/nll"] = np.full(4, np.nan, np.float32)

    assert "'statistics/nll' holds NaN" in refusal(build(path, change))


def test_statistics_may_be_infinite(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["statistics/nll"] = np.full(4, np.inf, np.float32)

    read_all(build(path, change))


def test_nan_is_noticed_in_the_block_that_holds_it(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["samples"][3] = np.nan

    with SampleFile(build(path, change)) as file:
        assert file.read(0, 3).shape == (3, 2)
        with pytest.raises(DamagedInputError, match="'samples' holds NaN"):
            file.read(3, 4)


def test_names_that_are_no_plain_text_are_quoted(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["\x1b[31m\n" + "x" * 1000] = np.zeros(4)

    refusal(build(path, change))


@pytest.mark.parametrize("place", ["/", "statistics"])
def test_names_that_are_not_utf8_are_quoted(path: Path, place: str) -> None:
    def change(file: h5py.File) -> None:
        file.require_group("statistics")
        h5d.create(file[place].id, b"\xff", h5t.STD_I8LE, h5s.create_simple((4,)))

    assert "udcff" in refusal(build(path, change))


@pytest.mark.parametrize("columns", ['["a"]', '["a","a"]', '["a",1]', '{"a":"b"}', "[", '["a",""]'])
def test_names_that_are_not_those_of_the_columns_are_refused(path: Path, columns: str) -> None:
    assert "columns" in refusal(build(path, nothing, columns=columns))
