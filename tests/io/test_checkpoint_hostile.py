"""Checkpoints that are damaged, of another kind, or made to harm."""

import json
import pickle
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import tensor_file
from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, load_resume, save_checkpoint
from arcsm_cli.io.samples import SampleWriter

METADATA = {
    "format": "pt",
    "arcsm_format": "checkpoint",
    "format_version": "2",
    "kind": "ar-csm",
    "config": "{}",
    "training": "{}",
    "provenance": "[]",
}
ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NAME = "\x1b[31m\n" + "x" * 1000


def encode(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_metadata(**changes: Any) -> bytes:
    return encode({"__metadata__": METADATA | changes})


def with_tensors(data: bytes = bytes(8), **tensors: object) -> bytes:
    return encode({"__metadata__": METADATA, **tensors}, data)


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "m"
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(5)}
    save_checkpoint(path, Checkpoint("ar-csm", {"n": 1}, {"step": 2}, [{"c": "train"}], tensors))
    return path.read_bytes()


def test_the_helpers_make_sound_files(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(with_tensors(w=ONE))
    assert load_checkpoint(path).tensors["w"].tolist() == [0, 0]


def test_a_file_of_any_other_length_is_refused(tmp_path: Path, sound: bytes) -> None:
    for length in range(len(sound)):
        refusal(tmp_path, sound[:length])
    refusal(tmp_path, sound + b"\0")


@given(st.dictionaries(st.integers(0, 1000), st.integers(0, 255), min_size=1, max_size=4))
def test_changed_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, changes: dict[int, int]
) -> None:
    content = bytearray(sound)
    for place, value in changes.items():
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    with suppress(DamagedInputError):
        load_checkpoint(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(
    dtype=st.sampled_from(["F32", "I8", "BOOL", "F4", "F8_E8M0", "F99"]) | json_values,
    shape=st.lists(st.integers(-1, 3) | st.integers(0, 1 << 70), max_size=10) | json_values,
    offsets=st.lists(st.integers(-1, 16), min_size=1, max_size=3) | json_values,
)
def test_any_description_of_a_tensor_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, dtype: object, shape: object, offsets: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "described"
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    for form in ({}, {"arcsm_format": "resume", "state": "{}"}):
        path.write_bytes(encode({"__metadata__": METADATA | form, "w": entry}, bytes(8)))
        with suppress(DamagedInputError):
            load_resume(path) if form else load_checkpoint(path)


VAST = {"dtype": "F32", "shape": [0, 1 << 62, 1 << 62], "data_offsets": [0, 0]}
TWICE = f'{{"__metadata__":{json.dumps(METADATA)},"w":{json.dumps(ONE)},"w":{json.dumps(ONE)}}}'
DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE: dict[str, bytes] = {
    "a gigantic header": struct.pack("<Q", tensor_file.MAX_HEADER + 1)
    + b"{"
    + bytes(tensor_file.MAX_HEADER),
    "the longest header": struct.pack("<Q", (1 << 64) - 1) + b"{" + bytes(100),
    "a header beyond the file": struct.pack("<Q", 1000) + b"{}",
    "a header that is no text": encode(b'{"\xff": 1}'),
    "a deep header": encode(b'{"a":' + DEEP.encode() + b"}"),
    "a repeated name": encode(TWICE.encode(), bytes(8)),
    "a repeated key of the metadata": encode(
        b'{"__metadata__":{"kind":"vae",' + json.dumps(METADATA).encode()[1:] + b"}"
    ),
    "too many axes": with_tensors(w=ONE | {"shape": [1] * 9 + [2]}),
    "a vast tensor of nothing": with_tensors(b"", w=VAST),
    "a long name": with_tensors(**{NAME: ONE | {"dtype": "F8_E4M3", "shape": [8]}}),
    "a type that no model holds": with_tensors(w=ONE | {"dtype": "F8_E4M3", "shape": [8]}),
    "two truth values of which one is 2": with_tensors(
        b"\0\2", w={"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}
    ),
    "no metadata": encode({"w": ONE}, bytes(8)),
    "metadata that are no texts": encode({"__metadata__": METADATA | {"kind": 1}}),
    "a resume file": with_metadata(arcsm_format="resume", state="{}"),
    "another's file": with_metadata(arcsm_format="\x1b[31m"),
    "the mark of others alone": with_metadata(arcsm_format="pt"),
    "a future version": with_metadata(format_version="3"),
    **{
        f"the version {version[:9]!r}": with_metadata(format_version=version)
        for version in ("", "0", "-1", "one", "1.0", "²", "9" * 5000, "\x1b[31m")
    },
    **{f"the kind {kind[:9]!r}": with_metadata(kind=kind) for kind in ("", "gan", NAME)},
    **{
        f"{text[:9]!r} as {key}": with_metadata(**{key: text})
        for key in ("config", "training", "provenance")
        for text in ("", "1", '"text"', "{", '{"a": NaN}', '{"a":1,"a":2}', DEEP, " " * (5 << 20))
    },
    **{
        f"no {key}": encode({"__metadata__": {k: v for k, v in METADATA.items() if k != key}})
        for key in METADATA
        if key != "format"
    },
    **{
        f"the pickle protocol {protocol}": pickle.dumps({"w": [1.0]}, protocol)
        for protocol in (2, 3, 4, 5)
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    refusal(tmp_path, HOSTILE[name])


@pytest.mark.parametrize("header", [{"a": [[]] * 100}, {str(i): ONE for i in range(12)}])
def test_a_header_of_many_items_is_refused(
    tmp_path: Path, header: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "MAX_TENSORS", 10)
    assert "more than" in refusal(tmp_path, encode(header))


def test_a_pytorch_file_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"w": Trap()}, tmp_path / "m.pt")
    refusal(tmp_path, (tmp_path / "m.pt").read_bytes())
    assert not (tmp_path / "sprung").exists()


def test_a_sample_file_is_called_one(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "s.h5", (2,), []):
        pass
    assert "HDF5" in refusal(tmp_path, (tmp_path / "s.h5").read_bytes())


NOT_FINITE = {
    "F16": b"\0\x7c",
    "BF16": b"\xc0\x7f",
    "F32": struct.pack("<f", float("inf")),
    "F64": struct.pack("<d", float("-inf")),
    "F8_E4M3": b"\x7f",
    "F8_E5M2": b"\x7f",
    "C64": struct.pack("<2f", 0, float("nan")),
}


@pytest.mark.parametrize("dtype", NOT_FINITE)
def test_what_is_not_finite_is_refused_by_name_in_every_type(tmp_path: Path, dtype: str) -> None:
    data = NOT_FINITE[dtype]
    size = len(data)
    # Beyond the first block of those that are looked at.
    count = (1 << 20) + 1
    data = bytes(size * (count - 1)) + data
    entry = {"dtype": dtype, "shape": [count], "data_offsets": [0, len(data)]}
    path = tmp_path / "m"
    metadata = METADATA | {"arcsm_format": "resume", "state": "{}"}
    path.write_bytes(encode({"__metadata__": metadata, "net.w": entry}, data))
    with pytest.raises(DamagedInputError, match=r"'net\.w' holds NaN"):
        load_resume(path)
