"""Checkpoints and resume files that are sound."""

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError, MissingInputError
from arcsm_cli.io import checkpoint
from arcsm_cli.io.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_resume,
    save_checkpoint,
    save_resume,
)
from arcsm_cli.io.reference_file import load_reference_file
from arcsm_cli.models.load import load_any

VERSION_1 = Path(__file__).with_name("version1")
"""A checkpoint and what belongs to it, of before the formats got marks of their own."""
MODEL_DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
]
OTHER_DTYPES = [
    *(torch.uint16, torch.uint32, torch.uint64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


def filled(dtype: torch.dtype, shape: list[int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def make(**changes: object) -> Checkpoint:
    ckpt = Checkpoint(
        kind="ar-csm",
        config={"layers": 2, "scale": 0.5},
        training={"step": 3},
        provenance=[{"command": "train"}],
        tensors={"net.weight": torch.randn(3, 4), "net.order": torch.arange(4)},
    )
    return replace(ckpt, **changes)  # type: ignore[arg-type]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype
        and a[k].shape == b[k].shape
        and bytes(a[k].contiguous().reshape(-1).view(torch.uint8))
        == bytes(b[k].contiguous().reshape(-1).view(torch.uint8))
        for k in a
    )


tensors = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(
        filled,
        st.sampled_from(MODEL_DTYPES),
        st.lists(st.integers(0, 3), max_size=4),
        st.integers(0, 9),
    ),
    max_size=5,
)
objects = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.text(max_size=5) | st.integers() | st.lists(st.floats(0, 1), max_size=3),
    max_size=4,
)


@given(
    tensors=tensors,
    kind=st.sampled_from(checkpoint.KINDS),
    config=objects,
    training=objects,
    provenance=st.lists(objects, max_size=3),
)
def test_a_checkpoint_round_trips(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, torch.Tensor], **fields: object
) -> None:
    path = tmp_path_factory.mktemp("ckpt") / "m"
    ckpt = make(tensors=tensors, **fields)
    save_checkpoint(path, ckpt)
    loaded = load_checkpoint(path)
    assert same(loaded.tensors, tensors)
    assert replace(loaded, tensors={}) == replace(ckpt, tensors={})


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    ckpt = make()
    save_checkpoint(tmp_path / "m", ckpt)
    assert same(safetensors.torch.load_file(tmp_path / "m"), ckpt.tensors)
    with safetensors.safe_open(tmp_path / "m", "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["arcsm_format"]) == ("pt", "checkpoint")
    assert json.loads(metadata["config"]) == ckpt.config


def test_what_other_programs_write_again_is_read(tmp_path: Path) -> None:
    ckpt = make()
    save_checkpoint(tmp_path / "ours", ckpt)
    with safetensors.safe_open(tmp_path / "ours", "pt") as file:
        safetensors.torch.save_file(ckpt.tensors, tmp_path / "theirs", file.metadata())
    assert same(load_checkpoint(tmp_path / "theirs").tensors, ckpt.tensors)


@pytest.mark.parametrize("text", ["plain", 'é\u2028\x7f\x01"\\\n/😀'])
def test_equal_content_gives_equal_bytes(tmp_path: Path, text: str) -> None:
    ckpt = make(kind="vae", tensors={text: torch.ones(1), "b": torch.zeros(2)}, config={text: text})
    turned = replace(ckpt, tensors=dict(reversed(ckpt.tensors.items())))
    contents = set()
    for number in range(5):  # the library's own order of the metadata changes from file to file
        save_checkpoint(tmp_path / "m", turned if number % 2 else ckpt)
        contents.add((tmp_path / "m").read_bytes())
    assert len(contents) == 1
    assert load_checkpoint(tmp_path / "m").config == {text: text}


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    model = VERSION_1 / "rings.safetensors"
    loaded = load_checkpoint(model)
    assert (loaded.kind, loaded.training["step"]) == ("ar-csm", 2)
    assert loaded.tensors.keys() == dict(load_any(model)[1].named_parameters()).keys()
    averages, state = load_resume(f"{model}.resume")
    assert state["step"] == 2
    assert len(averages) > len(loaded.tensors)
    assert load_reference_file(f"{model}.reference").count == 1000


def test_tensors_that_are_no_plain_memory_are_written(tmp_path: Path) -> None:
    base = torch.randn(4, 6, requires_grad=True)
    given_tensors = {"transposed": base.T, "expanded": base[:1].expand(3, 6), "part": base[1:, ::2]}
    given_tensors |= {"base": base, "again": base, "row": base[1], "none": base[:0]}
    save_checkpoint(tmp_path / "m", make(tensors=given_tensors))
    assert same(load_checkpoint(tmp_path / "m").tensors, given_tensors)


def test_loaded_tensors_may_be_written_to(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", make())
    loaded = load_checkpoint(tmp_path / "m")
    loaded.tensors["net.weight"].add_(1)


def test_a_checkpoint_is_read_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ckpt = make()
    save_checkpoint(tmp_path / "m", ckpt)
    stream = io.BytesIO((tmp_path / "m").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream, isatty=lambda: False))
    assert same(load_checkpoint("-").tensors, ckpt.tensors)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
def test_loading_takes_little_more_memory_than_the_tensors(tmp_path: Path) -> None:
    def peak() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(s.split()[1]) for s in status.splitlines() if s.startswith("VmHWM"))

    size = 32 << 20
    save_checkpoint(tmp_path / "m", make(tensors={"w": torch.zeros(size // 4)}))
    load_checkpoint(tmp_path / "m")  # whatever is loaded once is loaded now
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    loaded = load_checkpoint(tmp_path / "m")
    assert peak() - before < loaded.tensors["w"].nbytes + (16 << 20)


@given(
    st.lists(st.sampled_from(MODEL_DTYPES + OTHER_DTYPES), max_size=6),
    st.lists(st.integers(0, 3), max_size=4),
    objects,
)
def test_a_resume_file_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    dtypes: list[torch.dtype],
    shape: list[int],
    state: dict[str, object],
) -> None:
    path = tmp_path_factory.mktemp("resume") / "m"
    given_tensors = {str(i): filled(dtype, shape, i) for i, dtype in enumerate(dtypes)}
    save_resume(path, given_tensors, state)
    loaded, loaded_state = load_resume(path)
    assert same(loaded, given_tensors)
    assert loaded_state == state


def test_a_missing_checkpoint_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load_checkpoint(tmp_path / "missing")


def test_a_resume_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_resume(tmp_path / "m", {}, {})
    with pytest.raises(DamagedInputError, match="is a resume file"):
        load_checkpoint(tmp_path / "m")


def test_a_checkpoint_is_no_resume_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", make())
    with pytest.raises(DamagedInputError, match="is a checkpoint"):
        load_resume(tmp_path / "m")


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_a_type_that_no_model_holds_is_not_written(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="no checkpoint holds"):
        save_checkpoint(tmp_path / "m", make(tensors={"w": filled(dtype, [2])}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_infinity_are_not_written(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    weights = torch.zeros(3, dtype=dtype)
    weights[1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        save_checkpoint(tmp_path / "m", make(tensors={"w": weights}))


def test_an_unknown_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind"):
        save_checkpoint(tmp_path / "m", make(kind="gan"))
