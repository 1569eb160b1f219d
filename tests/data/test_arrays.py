"""NumPy files, sound and hostile."""

import io
import pickle
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from arcsm_cli.data.arrays import image_or_vector, label_values, read_npy, read_npz
from arcsm_cli.errors import DamagedInputError

Hostile = Callable[[], AbstractContextManager[None]]

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    width = 2 if version == 1 else 4
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text + content


def header(descr: str = "<f4", shape: str = "(2, 3)", fortran: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


numbers = hnp.arrays(
    dtype=st.sampled_from(["<f4", ">f8", "<f2", "u1", "<i8", ">u2", "?"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
)


@quick
@given(array=numbers, fortran=st.booleans())
def test_what_numpy_saves_is_read_back(tmp_path: Path, array: NDArray[Any], fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    np.testing.assert_array_equal(read_npy(write(tmp_path / "x.npy", saved(array))), array)


@quick
@given(data=st.data())
def test_a_cut_or_altered_array_file_is_damaged_or_read(
    tmp_path: Path, data: st.DataObject, hostile: Hostile
) -> None:
    content = bytearray(saved(np.arange(6, dtype=np.float32).reshape(2, 3)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = write(tmp_path / "x.npy", bytes(content))
    with hostile():
        read_npy(path)


@quick
@given(text=st.text(st.characters(max_codepoint=255), max_size=80))
def test_any_text_as_header_is_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamagedInputError):
        read_npy(write(tmp_path / "x.npy", npy(text, b"abcd")))


@pytest.mark.parametrize(
    "text",
    [
        header(shape="(99999999999, 99999)"),
        header(shape="(-2, -3)"),
        header(shape="(True, 6)"),
        header(shape="(2.0, 3)"),
        header(shape="6"),
        header(descr="|O"),
        header(descr="<U6"),
        header(descr="<M8[s]"),
        header(descr="<c8"),
        header(fortran="1"),
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
        "{'shape': (2, 3)}",
        "(" * 2000,
        "-" * 4000,
        "__import__('os').system('true')",
    ],
)
def test_hostile_headers_are_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamagedInputError, match=r"x\.npy"):
        read_npy(write(tmp_path / "x.npy", npy(text, bytes(24))))


def test_a_gigantic_header_is_refused_by_its_length(tmp_path: Path) -> None:
    content = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{"
    with pytest.raises(DamagedInputError, match="too long"):
        read_npy(write(tmp_path / "x.npy", content))


def test_a_header_that_declares_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npy", npy(header(shape="(1099511627775, 8)"), bytes(24)))
    with pytest.raises(DamagedInputError, match="declares"):
        read_npy(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    array = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    assert pickle.dumps(array)
    with pytest.raises(DamagedInputError):
        read_npy(tmp_path / "x.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["images", "samples", "x", "anything"])
def test_examples_are_found_under_their_names(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {name: np.ones((2, 3)), "labels": np.arange(2)}
    np.savez(tmp_path / "x.npz", **arrays)
    array, labels = read_npz(tmp_path / "x.npz")
    assert array.shape == (2, 3)
    assert labels is not None


def test_several_arrays_of_other_names_are_refused_by_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", left=np.ones(2), right=np.ones(2))
    with pytest.raises(DamagedInputError, match="left, right"):
        read_npz(tmp_path / "x.npz")


def test_compressed_archives_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, 8, 8), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", images=images)
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz")[0], images)


def test_archives_that_expand_without_bounds_are_refused(tmp_path: Path) -> None:
    size = 2**28 + 1
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(npy(header("|u1", f"({size}, 1)")))
        for _ in range(2**8):
            stream.write(bytes(2**20))
        stream.write(b"0")
    with pytest.raises(DamagedInputError, match="would expand"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_use_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("x.npy", saved(np.ones((2, 2))))
    with pytest.raises(DamagedInputError, match="cannot be unpacked"):
        read_npz(tmp_path / "x.npz")


@quick
@given(data=st.data())
def test_a_cut_or_altered_archive_is_damaged_or_read(
    tmp_path: Path, data: st.DataObject, hostile: Hostile
) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(6.0).reshape(2, 3), y=np.arange(2))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    with hostile():
        read_npz(write(tmp_path / "x.npz", bytes(content)))


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [
        ((5, 7), (5, 7)),
        ((5, 8, 6), (5, 1, 8, 6)),
        ((5, 1, 8, 6), (5, 1, 8, 6)),
        ((5, 3, 8, 6), (5, 3, 8, 6)),
        ((5, 8, 6, 1), (5, 1, 8, 6)),
        ((5, 8, 6, 3), (5, 3, 8, 6)),
        ((5, 3, 8, 3), (5, 3, 8, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_layouts_are_recognised(
    given_shape: tuple[int, ...], shape: tuple[int, ...], dtype: type
) -> None:
    assert image_or_vector(np.ones(given_shape, dtype), "x").shape == shape


def test_channels_last_images_are_transposed_and_not_reshaped(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 5, 4, 3), np.uint8)
    assert image_or_vector(images, "x")[1, 2, 3, 0] == images[1, 3, 0, 2]


@pytest.mark.parametrize("dtype", ["u1", ">f4", "<f8", "<i4", "?"])
def test_vectors_of_any_number_type_become_floats_that_hold_them(dtype: str) -> None:
    most = np.full((2, 3), np.iinfo(dtype).max if dtype[-2] in "iu" else 1, dtype)
    assert image_or_vector(most, "x").tolist() == most.tolist()


def test_eight_bit_images_stay_eight_bit() -> None:
    assert image_or_vector(np.ones((2, 3, 3), np.uint8), "x").dtype == torch.uint8


@pytest.mark.parametrize("shape", [(), (4,), (0, 3), (2, 0), (2, 2, 2, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DamagedInputError, match="expected vectors N x D"):
        image_or_vector(np.ones(shape), "x")


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0])
def test_floating_point_images_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(DamagedInputError, match=r"expected \[0, 1\]"):
        image_or_vector(np.full((1, 1, 2, 2), value), "x")


def test_rounding_at_the_ends_of_the_range_is_clipped() -> None:
    values = image_or_vector(np.array([-1e-6, 1 + 1e-6]).reshape(1, 1, 1, 2), "x")
    assert values.flatten().tolist() == [0.0, 1.0]


def test_samples_may_leave_the_range() -> None:
    assert image_or_vector(np.full((1, 1, 2, 2), 1.3), "x", bounded=False).max() > 1


def test_values_beyond_single_precision_are_refused() -> None:
    with pytest.raises(DamagedInputError, match=r"\[1, 0\] is inf"):
        image_or_vector(np.array([[0.0], [1e300]]), "x")


@pytest.mark.parametrize(
    "labels",
    [np.arange(3), np.array([0.5, 1]), np.array(["a", "b"]), np.array([np.nan, 1]), [1e300, 0]],
)
def test_labels_that_are_not_one_whole_number_each_are_refused(labels: Any) -> None:
    with pytest.raises(DamagedInputError, match="labels"):
        label_values(np.asarray(labels), 2, "x")
