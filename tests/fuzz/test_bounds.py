"""Files that declare, or seem to hold, far more than they do: memory and time stay small.

Each is read by a process of its own that may take half a gigabyte and some seconds of processor
time; going beyond either ends it.
"""

import gzip
import io
import json
import os
import resource
import signal
import struct
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch  # noqa: F401  before the limits, which are for what reading takes

from arcsm_cli.errors import DamagedInputError

MEMORY, SECONDS = 512 << 20, 10
VAST = 1 << 40  # bytes, of files full of holes

METADATA = {"arcsm_format": "checkpoint", "format_version": "2", "kind": "vae", "config": "{}",
            "training": "{}", "provenance": "[]"}  # fmt: skip


def holes(path: Path, start: bytes, size: int = VAST) -> None:
    path.write_bytes(start)
    os.truncate(path, size)


def checkpoint(path: Path) -> None:
    from arcsm_cli.models.load import load_any

    load_any(path)


def data(path: Path) -> None:
    from arcsm_cli.data.files import load_file

    load_file(str(path))


def idx(path: Path) -> None:
    from arcsm_cli.data.vision import read_idx

    read_idx(path.with_suffix("") if path.suffix == ".gz" else path, 1)


def svhn(path: Path) -> None:
    from arcsm_cli.data.vision import read_svhn

    read_svhn(path)


def partition(path: Path) -> None:
    from arcsm_cli.data.celeba import _partition

    _partition(path, "0")


def picture(path: Path) -> None:
    from arcsm_cli.data.decoding import Picture
    from arcsm_cli.data.images import load_images
    from arcsm_cli.data.options import DataOptions

    load_images([Picture.at(path)], DataOptions(), "folder")


def config(path: Path) -> None:
    from arcsm_cli.cli.config import read_config

    read_config(str(path))


def length(count: int) -> bytes:
    return count.to_bytes(8, "little")


def headed(header: bytes) -> bytes:
    return length(len(header)) + header


def tensors(count: int) -> bytes:
    entry = {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}
    return headed(json.dumps({"__metadata__": METADATA, "w": entry}).encode())


def npy(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def full_checkpoint(path: Path) -> None:
    header = tensors(0)
    holes(path, tensors(VAST - len(header) - 64), VAST)


def exact_checkpoint(path: Path) -> None:
    start = tensors(VAST)
    holes(path, start, len(start) + VAST)


def exact_npy(path: Path) -> None:
    start = npy((VAST // 4 - 1, 4))
    holes(path, start, len(start) + (VAST // 4 - 1) * 4)


def bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as f,
    ):
        f.write(npy((1 << 19, 1 << 10)))
        for _ in range(512):
            f.write(bytes(1 << 20))


def packed_idx(path: Path) -> None:
    start = bytes([0, 0, 8, 1]) + struct.pack(">I", (1 << 32) - 1)
    path.write_bytes(gzip.compress(start + bytes(1 << 20)))


def endless_idx(path: Path) -> None:
    start = bytes([0, 0, 8, 1]) + struct.pack(">I", 1 << 20)
    path.write_bytes(gzip.compress(start + bytes(64 << 20)))


def vast_mat(path: Path) -> None:
    # One compressed element of a gigabyte of zeros, which claims to be an array.
    packer = zlib.compressobj()
    start = struct.pack("<IIIIII", 14, 1 << 30, 6, 8, 9, 0) + struct.pack(
        "<II4I", 5, 16, 32, 32, 3, 9
    )
    parts = [packer.compress(start), *(packer.compress(bytes(1 << 24)) for _ in range(64))]
    element = b"".join(parts) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    path.write_bytes(head + struct.pack("<II", 15, len(element)) + element)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(*chunks: bytes, width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def picture_bomb(path: Path) -> None:
    rows = zlib.compress(bytes(1 << 26))
    path.write_bytes(png(chunk(b"IDAT", rows), width=1 << 15, height=1 << 15))


def text_bomb(path: Path) -> None:
    text = b"key\0\0" + zlib.compress(bytes(1 << 27))
    path.write_bytes(png(*[chunk(b"zTXt", text)] * 8, width=4, height=4))


def chunks_that_unpack(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(format="arcsm-samples", format_version=1, provenance="[]")
        samples = file.create_dataset(
            "samples", (512, 1 << 18), np.float32, chunks=(1, 1 << 18), compression="gzip"
        )
        for i in range(512):
            samples[i] = 0


def strings(path: Path) -> None:
    text = json.dumps({"__metadata__": METADATA, "w": {str(i): "x" for i in range(1_050_000)}})
    path.write_bytes(headed(text.encode()))


CASES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "checkpoint, header of zeros": (checkpoint, lambda p: holes(p, length(1 << 24) + b"{")),
    "checkpoint, gigantic header": (checkpoint, lambda p: holes(p, length(1 << 39) + b"{")),
    "checkpoint, bytes left over": (checkpoint, lambda p: holes(p, tensors(100))),
    "checkpoint, almost as long as it says": (checkpoint, full_checkpoint),
    "checkpoint, as long as it says": (checkpoint, exact_checkpoint),
    "zeros": (data, lambda p: holes(p, b"")),
    "npy, vast": (data, lambda p: holes(p, npy((1 << 30, 1 << 30)))),
    "npy, gigantic header": (data, lambda p: holes(p, b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{")),
    "npy, as long as it says": (data, exact_npy),
    "idx, packed, vast": (idx, packed_idx),
    "idx, holes": (idx, lambda p: holes(p, bytes([0, 0, 8, 1]) + struct.pack(">I", 1 << 31))),
    "mat, holes": (svhn, lambda p: holes(p, b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM")),
    "partition, zeros": (partition, lambda p: holes(p, b"000001.jpg 0\n")),
    "picture, holes": (picture, lambda p: holes(p, png(width=1 << 14, height=1 << 12)[:-12])),
    "config, zeros": (config, lambda p: holes(p, b"a = 1\n")),
    "config, parts": (config, lambda p: p.write_bytes(b"a." * (1 << 19))),
    "config, tables": (config, lambda p: p.write_bytes(b"[" + b"a." * 9 + b"a]\n" * 40_000)),
}  # fmt: skip

# Files that take seconds to make: read by tests/slow/test_bombs.py.
BOMBS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "checkpoint, a million values": (checkpoint, strings),
    "npz, bomb": (data, bomb),
    "table, zeros": (data, lambda p: holes(p, b"1,2\n" * 200, 1 << 34)),
    "table, one line": (data, lambda p: p.write_bytes(b"1," * (20 << 20))),
    "samples, bomb": (data, chunks_that_unpack),
    "idx, packed, longer than it says": (idx, endless_idx),
    "mat, bomb": (svhn, vast_mat),
    "partition, one line": (partition, lambda p: p.write_bytes(b"x" * (100 << 20))),
    "picture, bomb": (picture, picture_bomb),
    "picture, text bomb": (picture, text_bomb),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_memory_and_time_are_bounded(name: str, tmp_path: Path) -> None:
    is_refused_within_bounds(*CASES[name], tmp_path / ("file.gz" if "packed" in name else "file"))


def is_refused_within_bounds(
    read: Callable[[Path], object], make: Callable[[Path], object], path: Path
) -> None:
    make(path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_limited(read, path, writing))
    os.close(writing)
    with open(reading, "rb") as pipe:
        message = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    assert (os.waitstatus_to_exitcode(status), message) == (0, "")
    assert usage.ru_utime + usage.ru_stime < SECONDS


def _limited(read: Callable[[Path], object], path: Path, report: int) -> int:
    """Read a file within the limits; returns 0 if it is found to be damaged."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
    try:
        read(path)
    except DamagedInputError:
        return 0
    except BaseException:
        os.write(report, traceback.format_exc().encode())
        return 1
    os.write(report, b"it was read")
    return 1
