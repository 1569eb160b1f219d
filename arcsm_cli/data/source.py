"""DATA specifications: ``NAME[:SPLIT]``, a path, ``PATH:SPLIT`` or ``-``.

Files and folders without splits of their own have those of `arcsm_cli.data.splits`.

Names win over paths (write ``./digits`` for a folder of that name), and a path that exists wins
over one with a split.
"""

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from arcsm_cli.data.columns import check_size, choose
from arcsm_cli.data.dataset import Dataset, require_finite
from arcsm_cli.data.folders import ImageFolder
from arcsm_cli.data.images import fit
from arcsm_cli.data.listing import holds_pictures
from arcsm_cli.data.names import splits_of, suggestion
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.several import Several, expanded, joined
from arcsm_cli.data.splits import ALL, PARTS, Hashes, content_hashes, split_rows
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.streams import label, show
from arcsm_cli.registry import SOURCES

MAX_DIMENSIONS = 1024
"""Largest D of ``gaussian:D``."""


class Undivided(Protocol):
    """A source without splits of its own, which has those of `arcsm_cli.data.splits`."""

    @property
    def hashes(self) -> Hashes:
        """What decides the split of each example."""

    def chosen(self) -> bool:
        """Whether a command of this program wrote it, and chose its examples."""


@dataclass(frozen=True)
class Source:
    """Something that data can be read from.

    ``splits`` are those it can be asked for, none of a reference. ``read`` takes one of them, or
    None for everything. ``doubt`` says why one has to be named.
    """

    name: str
    splits: tuple[str, ...]
    read: Callable[[str | None, DataOptions], Dataset]
    undivided: Undivided | None = None
    doubt: str = ""

    def choose(self, asked: str | None, default: str) -> str | None:
        """Return the split to read, ``None`` for everything."""
        if asked is None and (self.undivided or not self.splits):
            return None
        if asked == ALL and self.undivided:
            return None
        if asked is None and self.doubt:
            raise DamagedInputError(self.doubt)
        return check_split(asked or default, self.splits, self.name)


def check_split(split: str, splits: Sequence[str], name: str) -> str:
    """Return a split, refusing one that there is not."""
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise UsageError(f"{label(name)} has no split {show(split)}; its splits: {there}")
    return split


def files_of(spec: str) -> tuple[tuple[str, ...], str, str | None]:
    """Return the paths of a specification, one or several, and their one member and split.

    Raises:
        MissingInputError: one is not there.
        UsageError: several are no files, or differ in member or split.
    """
    words = spec.words if isinstance(spec, Several) else (spec,)
    parts = [_parts(word) for word in words]
    _, member, split = parts[0]
    for word, (path, *own) in zip(words, parts, strict=True):
        if len(words) == 1:
            break
        if not os.path.exists(path):
            raise MissingInputError(f"{label(word)}: does not exist")
        if word in SOURCES or path == "-" or not os.path.isfile(path):
            raise UsageError(
                f"{label(word)}: several inputs are taken as one only if all are files"
            )
        if own != [member, split]:
            raise UsageError(f"{label(word)}: '::ARRAY' and ':SPLIT' must be the same of all files")
    return tuple(path for path, *_ in parts), member, split


def open_source(
    spec: str, options: DataOptions, like: tuple[int, ...] | None
) -> tuple[Source, str | None]:
    """Return the source of a specification and the split it names, if any."""
    spec = expanded(spec)
    if isinstance(spec, Several):
        return _several(spec, options)
    literal_path = ":" in spec and os.path.exists(spec)
    name, colon, split = spec.partition(":")
    if name in SOURCES and not literal_path:
        if SOURCES.has(name, "sized"):
            size, colon, split = split.partition(":")
            name = f"{name}:{_dimensions(spec, name, size)}"
        return _named(name, like), split if colon else None
    path, member, asked = _parts(spec)
    if path == "-" or os.path.exists(path):
        return _path(path, member, options), asked
    hint = "" if os.sep in spec or "." in spec else suggestion(name)
    raise MissingInputError(f"{label(spec)}: neither a data set nor an existing path{hint}")


def path_of(spec: str) -> str | None:
    """Return the path that a specification reads, ``-`` for standard input; of names, ``None``."""
    if spec.partition(":")[0] in SOURCES and not (":" in spec and os.path.exists(spec)):
        return None
    return _parts(spec)[0]


def _parts(spec: str) -> tuple[str, str, str | None]:
    """Part ``PATH[::MEMBER][:SPLIT]``, the path being one that exists."""
    if os.path.exists(spec):
        return spec, "", None
    path, doubled, rest = spec.partition("::")
    if doubled and (path == "-" or os.path.exists(path)):
        member, colon, split = rest.partition(":")
        return path, member, split if colon else None
    path, colon, split = spec.rpartition(":")
    if colon and (path == "-" or os.path.exists(path)):
        return path, "", split
    return spec, "", None


def _named(name: str, like: tuple[int, ...] | None) -> Source:
    kind = name.partition(":")[0]
    load = SOURCES[kind]

    def read(split: str | None, options: DataOptions) -> Dataset:
        if split is None:  # in the shape of the model, with nothing to choose from
            return choose(load(name, like, options), DataOptions(given=options.given))
        return _finish(choose(_loaded(kind, load(name, split, options)), options), options)

    return Source(name, splits_of(kind), read)


def _loaded(kind: str, data: Dataset) -> Dataset:
    """Check what a plugin's source gives; our own check theirs."""
    if SOURCES.part(kind).origin:
        if not isinstance(data, Dataset) or len(data) == 0:
            raise DamagedInputError(f"{kind}: its plugin gives no Dataset with examples")
        require_finite(data.values, label(data.name))
    return data


def _pictures(path: str, options: DataOptions) -> Source:
    folder = ImageFolder(Path(path))

    def read(split: str | None, options: DataOptions) -> Dataset:
        return choose(folder.load(split, options), options)

    if not folder.folders and len(folder.listing.pictures) == 1:  # its pages are examples
        plain = replace(options, center_crop=None, resize=None)
        return _held(path, lambda limit: read(None, replace(plain.everything, limit=limit)))
    if not folder.folders:
        return Source(path, PARTS, read, folder)
    splits = (*folder.folders, ALL) if folder.doubt else tuple(folder.folders)
    return Source(path, splits, read, doubt=folder.doubt)


def _path(path: str, member: str, options: DataOptions) -> Source:
    if path != "-" and holds_pictures(path):
        if member:
            raise UsageError(f"{label(path)} holds images: '::' is of files of arrays")
        return _pictures(path, options)
    name = f"{path}::{member}" if member else path

    def load(limit: int | None) -> Dataset:
        from arcsm_cli.data.files import load_file

        return replace(load_file(path, limit, options, member), name=name)

    return _held(name, load)


def _several(spec: Several, options: DataOptions) -> tuple[Source, str | None]:
    paths, member, asked = files_of(spec)
    name = spec.without(asked)

    def load(limit: int | None) -> Dataset:
        from arcsm_cli.data.files import load_file

        return joined([load_file(path, None, options, member) for path in paths], name).limit(limit)

    return _held(name, load), asked


def _held(name: str, load: Callable[[int | None], Dataset]) -> Source:
    held = _Held(name, load)
    return Source(name, PARTS, held.read, held)


class _Held:
    """A file or standard input, read once: of ``load``, the first so many of its examples."""

    def __init__(self, name: str, load: Callable[[int | None], Dataset]) -> None:
        self.name, self.everything = name, functools.cache(load)

    @functools.cached_property
    def hashes(self) -> Hashes:
        return content_hashes(self.everything(None).values)

    def chosen(self) -> bool:
        return bool(self.everything(None).source)

    def read(self, split: str | None, options: DataOptions) -> Dataset:
        if split is None:
            return _finish(self.everything(options.limit), options)
        rows = split_rows(self.hashes, split, self.name)
        rows = rows[options.chosen(len(rows))]
        return _finish(self.everything(None).select(rows, f"{self.name}:{split}"), options)


def _dimensions(spec: str, name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_DIMENSIONS:
        raise UsageError(f"{label(spec)}: expected {name}:D with D from 1 to {MAX_DIMENSIONS}")
    return int(text)


def _finish(data: Dataset, options: DataOptions) -> Dataset:
    """Apply the choice, the crop and the size; those that have been applied change nothing."""
    if len(rows := options.chosen(len(data))) < len(data):
        data = data.select(rows)
    check_size(options, data.kind, label(data.name))
    values = fit(data.values, options)
    return data if values is data.values else replace(data, values=values)
