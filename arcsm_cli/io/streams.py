"""Inputs as local files: paths are checked, pipes and ``-`` are spooled, names of models found."""

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Literal, Protocol, TextIO

from arcsm_cli import pretrained
from arcsm_cli.errors import DamagedInputError, MissingInputError, OutputError, UsageError
from arcsm_cli.io.scratch import scratch_file, temporary_folder

STDIN = "standard input"
MODEL_FILE = "model.safetensors"
"""The checkpoint in a folder that holds a model, as `arcsm export` writes it."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_called: dict[str, str] = {}  # file -> what the user called it, for error messages


def show(text: object, limit: int = 60) -> str:
    """``text`` quoted for a one-line message: no control characters, at most ``limit`` long.

    >>> show("two\\nlines")
    "'two\\\\nlines'"
    """
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else quoted[: limit - 3] + "..."


def label(source: str | os.PathLike[str]) -> str:
    """What messages call an input: its path as given, or ``standard input`` for ``-``.

    A file that `local_input` made or found, or that `called` names, goes by the name of what it
    stands for, with or without a split of it.
    """
    if source == "-":
        return STDIN
    name = os.fspath(source)
    path, colon, split = name.rpartition(":")
    if name in _called:
        name = _called[name]
    elif path in _called:
        name = f"{_called[path]}{colon}{split}"
    return name if name.isprintable() else ascii(name)


@contextmanager
def called(path: str | os.PathLike[str], name: str) -> Iterator[None]:
    """While the context lasts, let messages call a file, which may not be there yet, so."""
    _called[os.fspath(path)] = name
    try:
        yield
    finally:
        del _called[os.fspath(path)]


@contextmanager
def local_input(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a seekable local file that holds the input ``source``.

    Args:
        source: a path, ``-`` for standard input, or ``arcsm:NAME``, the checkpoint of a model that
            comes with the program. Pipes are copied to a temporary file, which is deleted when the
            context ends; regular files are yielded as they are, and of a folder that `arcsm export`
            wrote its checkpoint.

    Raises:
        MissingInputError: it does not exist or cannot be read.
        DamagedInputError: it is neither a file nor a pipe, or a model's file is not as declared.
        UsageError: ``-`` and standard input is a terminal.
        OutputError: there is no room to spool the pipe.
    """
    if source == "-":  # a Path("-") is a file of that name
        if sys.stdin.isatty():
            raise UsageError(f"{STDIN} is a terminal: pipe a file in, or give a path instead of -")
        if _is_device(sys.stdin):
            raise DamagedInputError(
                f"{STDIN}: is a folder or a device, where a file or a pipe is expected"
            )
        with spooled(sys.stdin.buffer, STDIN) as path:
            yield path
        return
    if isinstance(source, str) and pretrained.is_name(source):  # a Path("arcsm:x") is a file
        path = pretrained.checkpoint_of(source)
        _called[str(path)] = source
        yield path
        return
    name = os.fspath(source)
    if os.path.isfile(held := os.path.join(name, MODEL_FILE)):
        name = held
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            with open(name, "rb"):
                pass  # unreadable files are refused here, with one message for all formats
    except (OSError, ValueError) as error:
        raise MissingInputError(f"{label(name)}: {_reason(error)}") from error
    if stat.S_ISREG(mode):
        yield Path(name)
    elif stat.S_ISFIFO(mode):
        with open(name, "rb") as pipe, spooled(pipe, label(name)) as path:
            yield path
    else:
        what = "a folder" if stat.S_ISDIR(mode) else "a device or socket"
        raise DamagedInputError(f"{label(name)}: is {what}, where a file or a pipe is expected")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file of a data set for reading in binary.

    Raises:
        OSError: it cannot be opened.
        DamagedInputError: it is a pipe, which would be waited for, or a device.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder the system complains itself
        return open(path, "rb")
    raise DamagedInputError(f"{label(path)}: is a pipe or a device, where a file is expected")


def _is_device(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.buffer.fileno()).st_mode
    except (OSError, ValueError):  # it is no file of the system's
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)


def sniff(path: Path) -> Literal["checkpoint", "samples"] | None:
    """What ``path`` looks like by its first bytes: safetensors, HDF5, or neither.

    The name plays no part, and nothing beyond nine bytes is read: whether the file is sound is
    for `checkpoint.load_checkpoint` and `samples.SampleFile` to say.

    Raises:
        MissingInputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise MissingInputError(f"{label(path)}: {_reason(error)}") from error
    if head.startswith(HDF5_SIGNATURE):
        return "samples"
    # Eight bytes of length, then a JSON object. No text file has a zero byte in its first eight,
    # and no header is so long that its length has none.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return "checkpoint"
    return None


UNKNOWN = "in no format that arcsm knows"

_LIBSVM = re.compile(rb"\S+(\s+[0-9]+:[-+.0-9eE]+)+\s*[\r\n]")

_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, HDF5_SIGNATURE, "an HDF5 file (arcsm's sample files are)"),
    (0, b"PK\x03\x04", "a zip archive (perhaps a pickled PyTorch file, which arcsm never reads)"),
    (0, b"\x93NUMPY", "a NumPy array, which is DATA"),
    (0, b"\x1f\x8b", "a gzip file"),
    (257, b"ustar", "a tar archive"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (0, b"MATLAB 7.3", "a MATLAB 7.3 file; save it with -v7"),
    (0, b"PAR1", "a Parquet file; with pandas, read_parquet(FILE).to_csv(OUT, index=False)"),
    (0, b"ARROW1", "a Feather file; with pandas, read_feather(FILE).to_csv(OUT, index=False)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"GIF8", "a picture"),
    (0, b"SQLite format 3", "an SQLite database; export a table as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (0, b"BZh", "a bzip2 file; unpack it first"),
    (0, b"\xfd7zXZ", "an xz file; unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (0, b"Rar!", "a RAR archive; unpack it first"),
    (0, b"(\xb5/\xfd", "a zstd file; unpack it first"),
)


def describe(head: bytes) -> str:
    """Name the format that a file's first bytes ``head`` (16 or more) belong to, for messages."""
    if not head:
        return "an empty file"
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return "a safetensors file (arcsm's checkpoints are; save arrays as .npz)"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickled file, which arcsm never reads; save arrays with numpy.savez"
    known = (what for place, magic, what in _KINDS if head[place:].startswith(magic))
    return next(known, None) or _describe_text(head.removeprefix(b"\xef\xbb\xbf").lstrip())


def _describe_text(head: bytes) -> str:
    if head[:1] in (b"{", b"["):
        return "JSON; save its numbers as CSV, one example a line"
    if head[:9].lower() == b"@relation":
        return "an ARFF file; save it as CSV"
    if head[:1] == b"<":
        return "XML or HTML"
    if _LIBSVM.match(head):
        return "a LIBSVM file; save it as CSV, or with numpy.savez"
    return UNKNOWN


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""


@contextmanager
def spooled(stream: Readable, name: str) -> Iterator[Path]:
    """Yield a temporary file with all that a stream gives, which messages call ``name``.

    Raises:
        OutputError: there is no room for it.
    """
    folder = temporary_folder()
    with ExitStack() as stack:
        try:
            path = stack.enter_context(scratch_file(folder, "arcsm"))
            with open(path, "wb") as file:
                while part := stream.read(1 << 20):
                    file.write(part)
        except OSError as error:
            raise OutputError(f"{name}: cannot be spooled to {folder}: {_reason(error)}") from error
        with called(path, name):
            yield path


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (isinstance(error, OSError) and error.strerror) or "is not a usable path"
