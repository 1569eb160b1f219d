"""What fuzzing and looking for it have found: each file that once did more than be refused."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from arcsm_cli.data import arrays, tables
from arcsm_cli.data.decoding import Picture
from arcsm_cli.data.files import load_file
from arcsm_cli.data.folders import ImageFolder
from arcsm_cli.data.images import load_images
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.errors import ArcsmError, DamagedInputError, UsageError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.provenance import extend, parse_chain
from arcsm_cli.io.samples import SampleFile
from tests.fuzz import readers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def refusal(read: Callable[[], object], error: type[ArcsmError] = DamagedInputError) -> str:
    with pytest.raises(error) as caught:
        read()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode()


# HDF5: each of these divides by zero or reads out of bounds in the library, version 2.0.
CRASHES: dict[str, tuple[dict[str, Any], dict[int, int]]] = {
    "SIGFPE": (
        {"maxshape": (None, 2)},
        {1027: 143, 3347: 40, 3348: 47, 8797: 96, 8798: 0, 8799: 0},
    ),
    "SIGSEGV": (
        {"compression": "lzf", "fletcher32": True},
        {148: 127, 149: 24, 150: 0, 151: 0, 6248: 0, 6389: 6, 6397: 2, 6405: 4},
    ),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_file_that_crashes_hdf5_is_damaged(path: Path, name: str) -> None:
    options, changes = CRASHES[name]
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs.update(format="arcsm-samples", format_version=1, provenance="[]")
        data = np.arange(16, dtype=np.float32).reshape(8, 2)
        file.create_dataset("samples", data=data, chunks=(2, 2), **options)
        file["labels"] = np.arange(8)
        file["statistics/nll"] = np.zeros(8, np.float32)
    content = bytearray(path.read_bytes())
    for place, value in changes.items():
        content[place] = value
    path.write_bytes(content)

    def read() -> None:
        with SampleFile(path) as file:
            for key in file.names:
                file.read(0, len(file), key)

    assert "damaged" in refusal(read)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_in_json_fit_a_float(number: str) -> None:
    # Such a chain could be read but not written again, and its numbers not be shown.
    assert "too large" in refusal(lambda: parse_chain(f'[{{"seed":{number}}}]', "file"))


def test_large_numbers_in_json_can_be_written_again() -> None:
    chain = parse_chain(f'[{{"seed":{"9" * 300},"x":1e300}}]', "file")
    assert bounded_json.dump(extend([chain], {})).count("9") == 300


def test_values_in_json_are_counted() -> None:
    with pytest.raises(bounded_json.JSONError, match="more than 10 values"):
        bounded_json.parse("[" + "1," * 11 + '",,,"]', size=100, values=10)
    assert len(bounded_json.parse("[" + "1," * 10 + '",,,"]', size=100, values=10)) == 11


def test_an_array_of_nothing_cannot_be_vast(path: Path) -> None:
    shape = (0, 1 << 39, 1 << 39)
    path.write_bytes(npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"))
    refusal(lambda: load_file(str(path)))


def packed(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            buffer = io.BytesIO()
            np.save(buffer, np.ones((2, 2)))
            archive.writestr(name, buffer.getvalue())


def test_names_in_an_archive_do_not_fill_the_message(path: Path) -> None:
    packed(path, "a" * 900 + ".npy")
    content = path.read_bytes()
    path.write_bytes(content[:30] + b"b" * 900 + content[930:])
    assert "damaged" in refusal(lambda: load_file(str(path)))


@pytest.mark.parametrize("content", [b"", bytes(1 << 20), b"\x93NUMPY\x01\0\xff\xff"])
def test_names_in_an_archive_are_told_as_text(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_MAX_SMALL", 1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("\x1b[31m\n.npy", content)
    assert "x1b[31m" in refusal(lambda: load_file(str(path)))


def test_a_vast_directory_of_an_archive_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(path, "x.npy", *(f"{i}.npy" for i in range(50)))
    assert load_file(str(path)).values.shape == (2, 2)
    monkeypatch.setattr(arrays, "_CHUNK", 1000)
    assert "directory" in refusal(lambda: load_file(str(path)))


def test_a_line_without_an_end_is_not_read_to_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MAX_LINE", 100)
    path.write_text("1,2\n" + "3," * 100)
    assert "longer than 100" in refusal(lambda: load_file(str(path)))


def test_a_cell_over_several_lines_is_refused(path: Path) -> None:
    path.write_text('1,2\n"3\n",4\n')
    assert "quoted cell of line 2" in refusal(lambda: load_file(str(path)))


def test_complaints_about_a_table_are_one_line(path: Path) -> None:
    path.write_text('"1"x\t2\n3\t4\n')
    refusal(lambda: load_file(str(path)))


def config(text: str) -> Callable[[], object]:
    from arcsm_cli.cli.config import Config

    def read() -> object:
        found = readers._file(text.encode(), "config.toml")
        return Config(str(found), *readers._options())

    return read


@pytest.mark.parametrize(
    "key", ["a." * 20_000 + "a=1", '["a" . ' + "a\t.\t" * 20_000 + "a]", "[[" + "'x'." * 99 + "x]]"]
)
def test_a_key_of_many_parts_is_refused_at_once(key: str) -> None:
    assert "line 2: a key of more than 16 parts" in refusal(config(f"steps = 1\n{key}\n"))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("9" * 5000, DamagedInputError),
        ("0x" + "f" * 9000, UsageError),
        ("[" * 150 + "]" * 150, UsageError),
        ("{" + ".".join("a" * 900) + "=1}", UsageError),
        ('"""' + "x" * 9000 + '"""', UsageError),
        ('"\\n\\u001b"', UsageError),
    ],
    ids=["decimal", "hexadecimal", "array", "table", "text", "escapes"],
)
def test_values_of_options_are_told_briefly(value: str, error: type[ArcsmError]) -> None:
    refusal(config(f"steps = {value}\n"), error)


@pytest.mark.parametrize("key", ['"' + "k" * 9000 + '"', '"a\\nb"'])
def test_unknown_keys_are_told_briefly(key: str) -> None:
    assert "unknown key" in str(_error(config(f"{key} = 1\n")))


def _error(read: Callable[[], object]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000
    return caught.value


def test_libraries_below_pillow_say_nothing_on_stderr(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(buffer, "TIFF", compression="tiff_lzw")
    path.write_bytes(buffer.getvalue().replace(b"\x80", b"\xff"))
    assert "cannot be decoded" in refusal(
        lambda: load_images([Picture.at(path)], DataOptions(), "folder")
    )
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[[str], None]:
    """Makes a pipe below the folder that nobody will ever write to."""

    def make(name: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(tmp_path / name)

    return make


def test_a_pipe_among_images_is_not_waited_for(tmp_path: Path, pipe: Callable[[str], None]) -> None:
    pipe("x.png")
    folder = ImageFolder(tmp_path)
    assert "x.png: is a pipe or a device" in refusal(lambda: folder.load(None, DataOptions()))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte"),
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-batches-bin/test_batch.bin"),
        ("svhn", "test_32x32.mat"),
        ("celeba", "celeba/list_eval_partition.txt"),
    ],
)
def test_a_pipe_in_a_data_set_is_not_waited_for(
    tmp_path: Path, pipe: Callable[[str], None], name: str, file: str
) -> None:
    pipe(file)
    for other in ("MNIST/raw/t10k-labels-idx1-ubyte", "celeba/img_align_celeba/x"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).touch()
    options = DataOptions(data_dir=tmp_path)
    found = refusal(lambda: load_data(f"{name}:test", options, default_split="test"))
    assert f"{file}: is a pipe or a device" in found


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/tty", "/dev/null"])
def test_a_link_to_a_device_among_images_is_not_opened(tmp_path: Path, target: str) -> None:
    if not os.path.exists(target):
        pytest.skip(f"needs {target}")
    (tmp_path / "x.png").symlink_to(target)
    assert "a device" in refusal(lambda: ImageFolder(tmp_path).load(None, DataOptions()))
