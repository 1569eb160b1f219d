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
from torch import Tensor

from arcsm_cli.data.arrays import image_or_vector, label_values, read_npy
from arcsm_cli.data.dataset import as_float
from arcsm_cli.data.files import load_file
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError

Hostile = Callable[[], AbstractContextManager[None]]

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


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
    with pytest.raises(DamagedInputError):
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


def read_npz(path: Path, member: str = "") -> Tensor:
    return load_file(str(path), member=member).values


def test_compressed_archives_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, 8, 8), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", images=images)
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz")[:, 0], images)


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
        ((8, 6, 3, 5), (5, 3, 8, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_layouts_with_one_reading_are_recognised(
    given_shape: tuple[int, ...], shape: tuple[int, ...], dtype: type
) -> None:
    assert image_or_vector(np.ones(given_shape, dtype), "x").shape == shape


@pytest.mark.parametrize(
    "shape",
    [(5, 3, 8, 3), (5, 8, 8, 4), (5, 8, 8, 2), (5, 8, 8, 8), (8, 8, 3), (3, 8, 8), (4,), (2,) * 5],
)
def test_shapes_with_several_readings_are_refused_with_the_option_that_decides(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(DamagedInputError, match="--layout"):
        image_or_vector(np.ones(shape), "x")


def test_bytes_in_two_axes_may_be_a_picture() -> None:
    with pytest.raises(DamagedInputError, match="ND, HW"):
        image_or_vector(np.ones((5, 7), np.uint8), "x")


@pytest.mark.parametrize(
    ("layout", "given_shape", "shape"),
    [
        ("NHWC", (5, 3, 8, 3), (5, 3, 3, 8)),
        ("NCHW", (5, 3, 8, 3), (5, 3, 8, 3)),
        ("CHWN", (3, 8, 6, 5), (5, 3, 8, 6)),
        ("HWC", (8, 6, 3), (1, 3, 8, 6)),
        ("HW", (8, 6), (1, 1, 8, 6)),
        ("ND", (5, 4, 3), (5, 12)),
        ("DN", (5, 4), (4, 5)),
        ("N", (5,), (5, 1)),
        ("D", (5,), (1, 5)),
    ],
)
def test_a_layout_says_where_each_axis_is(
    layout: str, given_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    values = image_or_vector(np.ones(given_shape), "x", DataOptions(layout=layout))
    assert values.shape == shape


@pytest.mark.parametrize("layout", ["", "NHH", "NC", "NHWD", "xy", "NHWCN"])
def test_what_is_no_layout_is_refused(layout: str) -> None:
    with pytest.raises(UsageError, match="--layout"):
        DataOptions(layout=layout)


def test_a_layout_of_other_axes_than_the_array_has_is_refused() -> None:
    with pytest.raises(UsageError, match="4 axes, where the array is 5x8x8"):
        image_or_vector(np.ones((5, 8, 8)), "x", DataOptions(layout="NHWC"))


@pytest.mark.parametrize(("count", "shape"), [(8, (8, 1, 6, 3)), (1, (1, 3, 8, 6))])
def test_the_number_of_labels_rules_out_readings(count: int, shape: tuple[int, ...]) -> None:
    assert image_or_vector(np.ones((8, 6, 3)), "x", count=count).shape == shape


@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_channels_last_images_are_transposed_and_not_reshaped(
    rng: np.random.Generator, layout: str | None
) -> None:
    images = rng.integers(0, 256, (2, 5, 4, 3), np.uint8)
    values = image_or_vector(images, "x", DataOptions(layout=layout))
    assert values[1, 2, 3, 0] == images[1, 3, 0, 2]


def test_the_last_channel_is_opacity_where_a_background_is_given() -> None:
    pixels = np.zeros((2, 5, 5, 4), np.uint8)
    pixels[0] = [200, 0, 100, 255]
    pixels[1] = [255, 0, 255, 0]
    values = image_or_vector(pixels, "x", DataOptions(background="black"))
    assert values[:, :, 0, 0].tolist() == [[200, 0, 100], [0, 0, 0]]


def test_a_layout_takes_four_channels_for_what_they_are() -> None:
    pixels = np.full((2, 5, 5, 4), 90, np.uint8)
    assert image_or_vector(pixels, "x", DataOptions(layout="NHWC")).shape == (2, 4, 5, 5)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<i4", "?"])
def test_vectors_of_any_number_type_become_floats_that_hold_them(dtype: str) -> None:
    most = np.full((2, 3), np.iinfo(dtype).max if dtype[-2:-1] in ("i", "u") else 1, dtype)
    assert image_or_vector(most, "x").tolist() == most.tolist()


def test_eight_bit_images_stay_eight_bit() -> None:
    assert image_or_vector(np.full((2, 5, 5), 255, np.uint8), "x").dtype == torch.uint8


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0)])
def test_arrays_without_examples_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DamagedInputError, match="no examples"):
        image_or_vector(np.ones(shape), "x")


@pytest.mark.parametrize(
    ("values", "dtype", "advice"),
    [
        ([0, 1], "u1", "0,1 or --range 0,255"),
        ([0, 21, 255], "u1", "0,21 or --range 0,255"),
        ([-0.5, 0.9], "f4", "-1,1"),
        ([0, 254], "f4", "0,255"),
        ([0, 60_000], "u2", "0,65535"),
        ([0, 1], "i8", "0,1"),
        ([0, 1 / 255], "f8", "0,1 or 0,0.00392157"),
        ([0, 1.01], "f8", "0,255"),
    ],
)
def test_ranges_with_two_readings_are_refused_with_the_option_that_decides(
    values: list[float], dtype: str, advice: str
) -> None:
    array = np.array(values, dtype).reshape(1, 1, -1)
    with pytest.raises(DamagedInputError, match=f"--range {advice}"):
        image_or_vector(array, "x", DataOptions(layout="NHW"))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "u1"), ([0, 40], "u1"), ([0, 1], "?"), ([0, 1], "f4"), ([0, 0.2], "f8")],
)
def test_ranges_with_one_reading_need_no_option(values: list[float], dtype: str) -> None:
    array = np.array(values, dtype).reshape(1, 1, -1)
    assert as_float(image_or_vector(array, "x", DataOptions(layout="NHW"))).max() <= 1


@pytest.mark.parametrize(
    ("values", "dtype", "given", "expected"),
    [
        ([0, 1, 1], "u1", "0,1", [0, 1, 1]),
        ([0, 10, 20], "u1", "0,20", [0, 0.5, 1]),
        ([0, 51, 0], "u1", "0,255", [0, 0.2, 0]),
        ([-1, 0, 1], "f4", "-1,1", [0, 0.5, 1]),
        ([0, 65535, 0], "u2", "65535,0", [1, 0, 1]),
    ],
)
def test_a_range_says_what_is_black_and_white(
    values: list[float], dtype: str, given: str, expected: list[float]
) -> None:
    array = np.array(values, dtype).reshape(1, 1, 3)
    options = DataOptions(layout="NHW", value_range=given)
    found = as_float(image_or_vector(array, "x", options)).flatten().tolist()
    assert found == pytest.approx(expected)


def test_values_beyond_the_range_given_are_refused() -> None:
    with pytest.raises(DamagedInputError, match="beyond --range 0,1"):
        image_or_vector(np.full((2, 5, 5), 2, np.uint8), "x", DataOptions(value_range="0,1"))


@pytest.mark.parametrize("given", ["", "1", "0,0", "0,nan", "a,b", "0,1,2"])
def test_what_is_no_range_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--range"):
        DataOptions(value_range=given)


def test_a_range_is_of_images() -> None:
    with pytest.raises(UsageError, match="holds vectors"):
        image_or_vector(np.ones((2, 3)), "x", DataOptions(value_range="0,1"))


def test_rounding_at_the_ends_of_the_range_is_clipped() -> None:
    values = image_or_vector(np.array([-1e-6, 1 + 1e-6]).reshape(1, 1, 2), "x")
    assert values.flatten().tolist() == [0.0, 1.0]


def test_values_beyond_single_precision_are_refused() -> None:
    with pytest.raises(DamagedInputError, match=r"\[1, 0\] is 1e\+300"):
        image_or_vector(np.array([[0.0], [1e300]]), "x")


@pytest.mark.parametrize(
    "labels",
    [np.arange(3), np.array([0.5, 1]), np.array(["a", "b"]), np.array([np.nan, 1]), [1e300, 0]],
)
def test_labels_that_are_not_one_whole_number_each_are_refused(labels: Any) -> None:
    with pytest.raises(DamagedInputError, match="labels"):
        label_values(np.asarray(labels), 2, "x")


def test_labels_of_which_one_each_is_set_become_numbers() -> None:
    assert label_values(np.eye(4)[[2, 0, 3]], 3, "x").tolist() == [2, 0, 3]
