"""Checkpoints that are damaged, of another kind, or made to harm."""

import json
import pickle
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, load_resume, save_checkpoint
from arcsm_cli.io.header import MAX_HEADER, MAX_TENSORS
from arcsm_cli.io.samples import SampleWriter

METADATA = {
    "format": "arcsm-checkpoint",
    "format_version": "1",
    "kind": "ar-csm",
    "config": "{}",
    "training": "{}",
    "provenance": "[]",
}
ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def encode(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_metadata(**changes: Any) -> bytes:
    return encode({"__metadata__": METADATA | changes})


def with_tensors(data: bytes = bytes(8), **tensors: object) -> bytes:
    return encode({"__metadata__": METADATA, **tensors}, data)


def sound(tmp_path: Path) -> bytes:
    path = tmp_path / "sound"
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(5)}
    save_checkpoint(path, Checkpoint("ar-csm", {"n": 1}, {"step": 2}, [{"c": "train"}], tensors))
    return path.read_bytes()


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedInputError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 300 + len(str(path))
    return message


def test_the_helpers_make_sound_files(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(with_tensors(w=ONE))
    assert load_checkpoint(path).tensors["w"].tolist() == [0, 0]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = sound(tmp_path)
    for length in range(len(content)):
        refusal(tmp_path, content[:length])


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    assert "an empty file" in refusal(tmp_path, b"")


def test_a_truncated_file_is_called_truncated(tmp_path: Path) -> None:
    assert "truncated" in refusal(tmp_path, sound(tmp_path)[:-1])


def test_bytes_after_the_tensors_are_refused(tmp_path: Path) -> None:
    assert "1 bytes too many" in refusal(tmp_path, sound(tmp_path) + b"\0")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    refusal(tmp_path_factory.mktemp("random"), content)


@given(st.binary(max_size=200))
def test_a_random_header_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    refusal(tmp_path_factory.mktemp("random"), encode(b"{" + content))


@settings(deadline=None)
@given(st.data())
def test_flipped_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(sound(folder))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "m"
    path.write_bytes(content)
    with suppress(DamagedInputError):
        load_checkpoint(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    dtype=st.sampled_from(["F32", "I8", "F99"]) | json_values,
    shape=st.lists(st.integers(-1, 1 << 70), max_size=10) | json_values,
    offsets=st.lists(st.integers(-1, 16), min_size=1, max_size=3) | json_values,
)
def test_any_description_of_a_tensor_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, dtype: object, shape: object, offsets: object
) -> None:
    path = tmp_path_factory.mktemp("described") / "m"
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    path.write_bytes(with_tensors(w=entry))
    with suppress(DamagedInputError):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 1 << 32, (1 << 64) - 1])
def test_a_gigantic_header_is_refused_unread(tmp_path: Path, length: int) -> None:
    message = refusal(tmp_path, struct.pack("<Q", length) + b"{" + bytes(100))
    assert f"header of {length} bytes" in message


def test_a_header_beyond_the_file_is_refused(tmp_path: Path) -> None:
    assert "truncated" in refusal(tmp_path, struct.pack("<Q", 1000) + b"{}")


def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "UTF-8" in refusal(tmp_path, encode(b'{"\xff": 1}'))


def test_a_deep_header_is_refused(tmp_path: Path) -> None:
    assert "nested" in refusal(tmp_path, encode(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


def test_a_header_of_many_items_is_refused(tmp_path: Path) -> None:
    assert "more than" in refusal(tmp_path, encode(b'{"a":[' + b"[]," * 400_000 + b"[]]}"))


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    content = {str(i): empty for i in range(MAX_TENSORS + 1)}
    assert "more than" in refusal(tmp_path, encode({"__metadata__": METADATA, **content}))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickled_file_is_called_pickled(tmp_path: Path, protocol: int) -> None:
    assert "a pickled file" in refusal(tmp_path, pickle.dumps({"w": [1.0]}, protocol))


def test_a_pytorch_file_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"w": Trap()}, tmp_path / "m.pt")
    assert "a zip archive" in refusal(tmp_path, (tmp_path / "m.pt").read_bytes())
    assert not (tmp_path / "sprung").exists()


def test_a_sample_file_is_called_one(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "s.h5", (2,), []):
        pass
    assert "HDF5" in refusal(tmp_path, (tmp_path / "s.h5").read_bytes())


def test_a_safetensors_file_of_others_is_refused(tmp_path: Path) -> None:
    assert "did not write" in refusal(tmp_path, encode({"w": ONE}, bytes(8)))


def test_a_future_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    assert "upgrade" in refusal(tmp_path, with_metadata(format_version="2"))


@pytest.mark.parametrize("version", ["", "0", "-1", "one", "1.0", "²", "9" * 5000, "\x1b[31m"])
def test_a_version_that_is_no_number_is_refused(tmp_path: Path, version: str) -> None:
    assert "format_version" in refusal(tmp_path, with_metadata(format_version=version))


@pytest.mark.parametrize("kind", ["", "gan", "\x1b[31m" + "x" * 1000])
def test_an_unknown_kind_is_refused(tmp_path: Path, kind: str) -> None:
    assert "kind" in refusal(tmp_path, with_metadata(kind=kind))


@pytest.mark.parametrize("key", ["config", "training", "provenance"])
@pytest.mark.parametrize("text", ["", "1", '"text"', "{", "[1]", '{"a": NaN}', '{"a":1,"a":2}'])
def test_metadata_that_is_no_json_of_its_type_is_refused(
    tmp_path: Path, key: str, text: str
) -> None:
    assert f"its {key}" in refusal(tmp_path, with_metadata(**{key: text}))


@pytest.mark.parametrize("key", ["config", "training", "provenance"])
def test_deep_metadata_is_refused(tmp_path: Path, key: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert "nested" in refusal(tmp_path, with_metadata(**{key: deep}))


@pytest.mark.parametrize("key", ["config", "training", "provenance"])
def test_oversized_metadata_is_refused(tmp_path: Path, key: str) -> None:
    assert "longer" in refusal(tmp_path, with_metadata(**{key: " " * (5 << 20)}))


@pytest.mark.parametrize("key", ["format", "format_version", "kind", "config", "training"])
def test_missing_metadata_is_refused(tmp_path: Path, key: str) -> None:
    metadata = {name: value for name, value in METADATA.items() if name != key}
    refusal(tmp_path, encode({"__metadata__": metadata}))


@pytest.mark.parametrize("metadata", [None, [], 1, {"format": 1}, {"format": ["a"]}])
def test_metadata_that_maps_no_texts_is_refused(tmp_path: Path, metadata: object) -> None:
    refusal(tmp_path, encode({"__metadata__": metadata}))


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ([0, 8], [0, 8], "overlaps"),
        ([0, 8], [4, 12], "overlaps"),
        ([0, 8], [12, 20], "gap"),
        ([4, 12], [12, 20], "gap"),
        ([0, 8], [8, 16], "truncated"),
    ],
)
def test_tensors_must_lie_one_after_the_other(
    tmp_path: Path, first: list[int], second: list[int], complaint: str
) -> None:
    tensors = {"a": ONE | {"data_offsets": first}, "b": ONE | {"data_offsets": second}}
    assert complaint in refusal(tmp_path, with_tensors(bytes(12), **tensors))


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    entry = json.dumps(ONE)
    text = f'{{"__metadata__":{json.dumps(METADATA)},"w":{entry},"w":{entry}}}'
    assert "repeats a key" in refusal(tmp_path, encode(text.encode(), bytes(8)))


@pytest.mark.parametrize(
    "shape", [[1 << 62], [1 << 32, 1 << 32], [True, 2], [-2], [2.0], ["2"], [1] * 9 + [2], None]
)
def test_an_impossible_shape_is_refused(tmp_path: Path, shape: object) -> None:
    assert "'w'" in refusal(tmp_path, with_tensors(w=ONE | {"shape": shape}))


@pytest.mark.parametrize("dtype", ["F128", "f32", "", None, ["F32"], "\x1b[31m"])
def test_an_unknown_type_is_refused(tmp_path: Path, dtype: object) -> None:
    assert "type" in refusal(tmp_path, with_tensors(w=ONE | {"dtype": dtype}))


def test_a_type_that_no_model_holds_is_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}
    assert "no checkpoint holds" in refusal(tmp_path, with_tensors(w=entry))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("dtype", "code"), [("F16", "e"), ("F32", "f"), ("F64", "d")])
def test_nan_and_infinity_are_refused_by_name(
    tmp_path: Path, value: float, dtype: str, code: str
) -> None:
    data = struct.pack(f"<2{code}", 0.0, value)
    entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, len(data)]}
    assert "'net.w' holds NaN" in refusal(tmp_path, with_tensors(data, **{"net.w": entry}))


def test_nan_is_refused_in_bfloat16(tmp_path: Path) -> None:
    entry = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
    assert "holds NaN" in refusal(tmp_path, with_tensors(b"\xc0\x7f", w=entry))


def test_nan_is_refused_far_into_a_tensor(tmp_path: Path) -> None:
    count = (1 << 20) + 3
    data = bytes(4 * (count - 1)) + struct.pack("<f", float("nan"))
    entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, len(data)]}
    assert "holds NaN" in refusal(tmp_path, with_tensors(data, w=entry))


def test_truth_values_must_be_zero_or_one(tmp_path: Path) -> None:
    entry = {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}
    assert "true and false" in refusal(tmp_path, with_tensors(b"\0\2", w=entry))


def test_a_name_that_is_no_plain_text_is_quoted(tmp_path: Path) -> None:
    name = "\x1b[31m\n" + "x" * 1000
    entries: dict[str, Any] = {name: ONE | {"dtype": "F99"}}
    refusal(tmp_path, with_tensors(**entries))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "C64"])
def test_nan_is_refused_in_every_type_of_a_resume_file(tmp_path: Path, dtype: str) -> None:
    data = {"F8_E4M3": b"\x7f", "F8_E5M2": b"\x7f", "C64": struct.pack("<2f", 0, float("nan"))}
    metadata = {"format": "arcsm-resume", "format_version": "1", "state": "{}"}
    entry = {"dtype": dtype, "shape": [1], "data_offsets": [0, len(data[dtype])]}
    path = tmp_path / "m"
    path.write_bytes(encode({"__metadata__": metadata, "w": entry}, data[dtype]))
    with pytest.raises(DamagedInputError, match="holds NaN"):
        load_resume(path)
