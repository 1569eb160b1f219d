"""Which pictures there are in a folder, an archive or a file of several pages."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from arcsm_cli.data.archives import archive_of, gunzipped, members
from arcsm_cli.data.decoding import SUFFIXES, Picture, is_picture
from arcsm_cli.data.names import SPLIT_FOLDERS
from arcsm_cli.errors import MissingInputError
from arcsm_cli.io.streams import label

_HEAD = 512


@dataclass(frozen=True)
class Listing:
    """The pictures of a source, in the order of their places.

    Attributes:
        pictures: By their places, which are names of folders and of a file. Folders around all
            of them do not count, unless one is called like a split. Of members of an archive with
            one name the last counts, as if it were unpacked.
        skipped: How many other files there are, by suffix.
    """

    pictures: dict[tuple[str, ...], Picture]
    skipped: Counter[str]


def holds_pictures(path: str) -> bool:
    """Return whether a path is one of pictures: a folder, an archive with some, or a picture.

    Raises:
        DamagedInputError: It is a damaged archive.
    """
    if os.path.isdir(path):
        return True
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # whoever reads it will say why
    kind = archive_of(head)
    if kind == "gzip":
        return _holds_tar(Path(path))
    if kind == "zip":
        return any(map(_is_image, (name for name, _ in members(Path(path), "zip"))))
    return kind == "tar" or is_picture(head)


def listing_of(path: Path) -> Listing:
    """List the pictures of a path for which `holds_pictures`.

    Raises:
        MissingInputError: A folder cannot be read.
        DamagedInputError: An archive is damaged.
    """
    if os.path.isdir(path):
        found = _folder(path)
    else:
        with open(path, "rb") as file:
            kind = archive_of(file.read(_HEAD))
        if kind is None:
            return Listing({(path.name,): Picture.at(path)}, Counter())
        found = [
            (PurePosixPath(name).parts, Picture(path, f"{label(path)}, {name}", piece))
            for name, piece in members(path, kind)
        ]
    skipped: Counter[str] = Counter()
    pictures: dict[tuple[str, ...], Picture] = {}
    for parts, picture in sorted(found, key=lambda each: each[0]):
        if any(part.startswith(".") and part not in (".", "..") for part in parts):
            skipped["hidden"] += 1
        elif _is_image(parts[-1]):
            pictures[parts] = picture
        else:
            skipped[PurePosixPath(parts[-1]).suffix.lower() or "without suffix"] += 1
    while pictures and _is_wrapped(pictures):
        pictures = {parts[1:]: picture for parts, picture in pictures.items()}
    return Listing(pictures, skipped)


@contextmanager
def readable(path: Path, pictures: list[Picture]) -> Iterator[list[Picture]]:
    """Yield pictures of a path as they can be opened: those of a packed tar archive are unpacked.

    Raises:
        DamagedInputError: The archive is damaged.
        OutputError: There is no room to unpack it.
    """
    packed = any(picture.piece is not None and not picture.piece.packing for picture in pictures)
    if packed and _holds_tar(path):
        with gunzipped(path) as unpacked:
            yield [replace(picture, path=unpacked) for picture in pictures]
    else:
        yield pictures


def _holds_tar(path: Path) -> bool:
    import gzip
    import zlib

    try:
        with gzip.open(path, "rb") as file:
            return archive_of(file.read(_HEAD)) == "tar"
    except (OSError, EOFError, zlib.error):
        return False


def _folder(folder: Path) -> list[tuple[tuple[str, ...], Picture]]:
    found: list[tuple[tuple[str, ...], Picture]] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        inside = Path(parent).relative_to(folder).parts
        found += [((*inside, file), Picture.at(Path(parent, file))) for file in files]
        targets = {name: os.path.realpath(Path(parent, name)) for name in folders}
        # linked folders count, but a link that leads back would go on for ever
        folders[:] = [n for n in folders if not n.startswith(".") and targets[n] not in seen]
        seen.update(targets.values())
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_wrapped(pictures: dict[tuple[str, ...], Picture]) -> bool:
    tops = {parts[0] for parts in pictures if len(parts) > 1}
    return (
        len(tops) == 1
        and all(len(parts) > 1 for parts in pictures)
        and not tops & {top for top in tops if top.lower() in SPLIT_FOLDERS}
    )


def _unreadable(error: OSError) -> NoReturn:
    raise MissingInputError(f"{label(error.filename)}: {error.strerror or error}") from error
