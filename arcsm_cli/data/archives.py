"""What is packed: members of zip and tar archives, and gzip.

Nothing is unpacked to where an archive says. Its members are pieces of the file, read one by one
into memory; of their names only the order and the folders count.
"""

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from arcsm_cli.data.dataset import MAX_BYTES
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.streams import label, show, spooled

ZIP_MAGIC = b"PK\x03\x04"
GZIP_MAGIC = b"\x1f\x8b"
TAR_MAGIC, TAR_PLACE = b"ustar", 257

MAX_MEMBERS = 2**20
"""More members of an archive are refused."""

MAX_MEMBER = 2**28
"""Larger members, packed or unpacked, are refused."""

MAX_DIRECTORY = 2**26
"""Bytes that the directory of a zip archive may take."""

SMALL, RATIO = 2**28, 100
"""A gzip file that is larger, and many times its packed size, is taken for a bomb."""
_LOCAL_HEADER = 30

Packing = Literal["", "stored", "deflated"]


@dataclass(frozen=True)
class Piece:
    """Where in an archive a member lies.

    Attributes:
        start: The byte at which it begins, in a zip archive with a header of its own.
        packed, size: Bytes in the archive, and unpacked.
        packing: Empty in a tar archive.
    """

    start: int
    packed: int
    size: int
    packing: Packing

    def read(self, file: IO[bytes], where: str) -> bytes:
        """Return the content, given the archive (for tar: unpacked).

        Raises:
            DamagedInputError: It is too large, or not what the archive says.
        """
        if max(self.packed, self.size) > MAX_MEMBER:
            raise DamagedInputError(f"{where}: {self.size} bytes; at most {MAX_MEMBER} are read")
        file.seek(self.start)
        if self.packing:
            head = file.read(_LOCAL_HEADER)
            if len(head) < _LOCAL_HEADER or not head.startswith(ZIP_MAGIC):
                raise DamagedInputError(f"{where}: is damaged: it is not where its archive says")
            lengths = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
            file.seek(sum(lengths), os.SEEK_CUR)
        content = file.read(self.packed)
        if self.packing == "deflated":
            try:
                content = zlib.decompressobj(-15).decompress(content, self.size + 1)
            except zlib.error as error:
                raise DamagedInputError(f"{where}: is damaged in its archive") from error
        if len(content) != self.size:
            raise DamagedInputError(f"{where}: is damaged or cut off in its archive")
        return content


def archive_of(head: bytes) -> Literal["zip", "tar", "gzip"] | None:
    """Return what kind of archive a file is by its first 512 bytes."""
    if head.startswith(ZIP_MAGIC):
        return "zip"
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    return "tar" if head[TAR_PLACE:].startswith(TAR_MAGIC) else None


def members(path: Path, kind: str) -> list[tuple[str, Piece]]:
    """Return the regular files in an archive, ``zip`` or ``tar`` (or a gzip file with one in it).

    Raises:
        DamagedInputError: It is damaged, encrypted, packed in another way, or has too many.
    """
    where, size = label(path), path.stat().st_size
    with closing(Isolated(lambda: _Lister(path, where), where)) as lister:
        bound = _bound(size) if kind == "gzip" else size
        found = lister.call("list_zip" if kind == "zip" else "list_tar", size=bound)
    return [(name, Piece(*piece)) for name, *piece in found]


@contextmanager
def gunzipped(path: Path) -> Iterator[Path]:
    """Yield a temporary file with what a gzip file holds, by its name for messages.

    Raises:
        DamagedInputError: It is damaged, or expands without bounds.
        OutputError: There is no room for it.
    """
    with open(path, "rb") as file:
        unpacked = Gunzip(file, path)
        with spooled(unpacked, label(path)) as spool:
            yield spool


class Gunzip:
    """What an open gzip file holds, as a bounded stream of bytes.

    Arguments:
        file: Open for reading in binary.
        path: Its path.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._stream = gzip.GzipFile(fileobj=file)
        self._where = label(path)
        self._left = _bound(os.fstat(file.fileno()).st_size)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end.

        Raises:
            DamagedInputError: The file is damaged, or expands without bounds.
        """
        try:
            part = self._stream.read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise DamagedInputError(f"{self._where}: damaged gzip file") from error
        self._left -= len(part)
        if self._left < 0:
            raise DamagedInputError(f"{self._where}: expands to more than is taken for sound")
        return part


def _bound(size: int) -> int:
    return min(MAX_BYTES, max(SMALL, RATIO * size))


class _Lister:
    """Lists archives in a process of its own: their directories are parsed in Python."""

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where

    def list_zip(self) -> list[tuple[str, int, int, int, str]]:
        """Return the name and the place of each file."""
        try:
            with (
                open(self._path, "rb", buffering=0) as raw,
                zipfile.ZipFile(Wary(raw, MAX_DIRECTORY)) as file,
            ):
                self._check_count(len(file.infolist()))
                return [self._zipped(info) for info in file.infolist() if _is_file(info)]
        except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError) as error:
            raise DamagedInputError(
                f"{self._where}: damaged zip archive: {show(str(error), 100)}"
            ) from error

    def list_tar(self) -> list[tuple[str, int, int, int, str]]:
        """Return the name and the place of each file, in the unpacked archive."""
        found: list[tuple[str, int, int, int, str]] = []
        try:
            with open(self._path, "rb") as raw:
                packed = raw.read(2) == GZIP_MAGIC
                raw.seek(0)
                stream = Gunzip(raw, self._path) if packed else raw
                with tarfile.open(fileobj=stream, mode="r|" if packed else "r:") as file:  # type: ignore[call-overload]
                    for info in file:
                        if info.isreg() and not info.issparse():
                            found.append(
                                (_printable(info.name), info.offset_data, info.size, info.size, "")
                            )
                        self._check_count(len(found))
        except (tarfile.TarError, ValueError, OSError, EOFError, zlib.error) as error:
            raise DamagedInputError(
                f"{self._where}: damaged tar archive: {show(str(error), 100)}"
            ) from error
        return found

    def _check_count(self, count: int) -> None:
        if count > MAX_MEMBERS:
            raise DamagedInputError(f"{self._where}: holds more than {MAX_MEMBERS} files")

    def _zipped(self, info: zipfile.ZipInfo) -> tuple[str, int, int, int, str]:
        packing = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
        if info.flag_bits & 1 or info.compress_type not in packing:
            raise DamagedInputError(
                f"{self._where}: {show(info.filename)} is encrypted, or packed by a method other "
                "than deflate: unpack the archive and give the folder"
            )
        name, kind = _printable(info.filename), packing[info.compress_type]
        return name, info.header_offset, info.compress_size, info.file_size, kind


def _is_file(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)  # of Unix; links hold a path and no picture
    return not info.is_dir() and kind in (0, stat.S_IFREG)


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


class Wary(io.BufferedReader):
    """A file of which nobody reads much at once: a zip archive's directory is read as a whole.

    Arguments:
        raw: The file, unbuffered.
        most: Bytes that may be read at once.
    """

    def __init__(self, raw: io.RawIOBase, most: int) -> None:
        super().__init__(raw)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, all for -1."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self._most:
            raise zipfile.BadZipFile(f"{size} bytes where a directory of names is expected")
        return super().read(size)
