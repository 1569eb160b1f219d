"""DATA specifications: ``NAME[:SPLIT]``, a path, ``PATH:SPLIT`` or ``-``.

Names win over paths (write ``./digits`` for a folder of that name), and a path that exists wins
over one with a split.
"""

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from arcsm_cli.data.columns import choose, fitted
from arcsm_cli.data.dataset import DataOptions, Dataset, require_finite, split_rows
from arcsm_cli.data.folders import ALL, ImageFolder
from arcsm_cli.data.images import fit
from arcsm_cli.data.listing import holds_pictures
from arcsm_cli.data.names import (
    SPLITS,
    splits_of,
    suggestion,
)
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.streams import label, show
from arcsm_cli.registry import SOURCES

MAX_DIMENSIONS = 1024
"""Largest D of ``gaussian:D``."""


@dataclass(frozen=True)
class _Source:
    """Something that data can be read from.

    ``splits`` are those it has; ``whole`` says that all of it is read when none is asked for;
    ``doubt`` says why one has to be.
    """

    name: str
    splits: tuple[str, ...]
    whole: bool
    read: Callable[[str | None], Dataset]
    doubt: str = ""

    def choose(self, asked: str | None, default: str) -> str | None:
        """Return the split to read, ``None`` for everything."""
        if asked is None and self.whole:
            return None
        if asked is None and self.doubt:
            raise DamagedInputError(self.doubt)
        split = asked or default
        if split not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise UsageError(f"{label(self.name)} has no split {show(split)}; its splits: {there}")
        return split


def load_data(
    spec: str,
    options: DataOptions,
    *,
    default_split: str,
    like: tuple[int, ...] | None = None,
    names: Sequence[str] = (),
) -> Dataset:
    """Load the data that a specification names.

    Arguments:
        spec: The specification.
        options: Where and how to load it.
        default_split: The split of a source with splits of its own when ``spec`` names none; a
            file is then taken as a whole.
        like: Shape of one example of the model, which ``uniform`` and ``constant-uniform`` take.
        names: Of the model's columns, as which those of a table are taken, in the model's order.

    Returns:
        The examples: images N x C x H x W or vectors N x D, at least one and all finite.

    Raises:
        MissingInputError: ``spec`` is neither a known name nor an existing path.
        UsageError: There is no such split, or an option does not fit the data.
        UnavailableError: The data set has to be downloaded first, or that failed.
        DamagedInputError: A file is damaged or of a kind that holds no data, or its columns are not
            those of ``names``.

    Example:
        >>> load_data("digits", DataOptions(limit=100), default_split="train").values.shape
        torch.Size([100, 1, 8, 8])
    """
    source, asked = _open(spec, options, like)
    return fitted(source.read(source.choose(asked, default_split)), names)


def train_and_valid(spec: str, options: DataOptions) -> tuple[Dataset, Dataset]:
    """Load training data and held-out validation data.

    The validation split serves where the source has one (``options.limit`` holds for both).
    Otherwise, a tenth of the training data is held out (see `Dataset.carve`); the test split is
    never touched, unless ``spec`` names it as the data to train on.

    Raises:
        ArcsmError: As `load_data`; also if there are fewer than two examples.
    """
    source, asked = _open(spec, options, None)
    split = source.choose(asked, "train")
    train = source.read(split)
    if split == "train" and "valid" in source.splits:
        return train, source.read("valid")
    return train.carve()


def _open(
    spec: str, options: DataOptions, like: tuple[int, ...] | None
) -> tuple[_Source, str | None]:
    """Return the source of a specification and the split it names, if any."""
    literal_path = ":" in spec and os.path.exists(spec)
    name, colon, split = spec.partition(":")
    if name in SOURCES and not literal_path:
        if SOURCES.has(name, "sized"):
            size, colon, split = split.partition(":")
            name = f"{name}:{_dimensions(spec, name, size)}"
        return _named(name, options, like), split if colon else None
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


def _named(name: str, options: DataOptions, like: tuple[int, ...] | None) -> _Source:
    kind = name.partition(":")[0]
    load = SOURCES[kind]

    def read(split: str | None) -> Dataset:
        if split is None:
            return choose(load(name, like, options), options)
        return _finish(choose(_loaded(kind, load(name, split, options)), options), options)

    return _Source(name, splits_of(kind), SOURCES.has(kind, "shaped"), read)


def _loaded(kind: str, data: Dataset) -> Dataset:
    """Check what a plugin's source gives; our own check theirs."""
    if SOURCES.part(kind).origin:
        if not isinstance(data, Dataset) or len(data) == 0:
            raise DamagedInputError(f"{kind}: its plugin gives no Dataset with examples")
        require_finite(data.values, label(data.name))
    return data


def _pictures(path: str, options: DataOptions) -> _Source:
    folder = ImageFolder(Path(path))

    def read(split: str | None) -> Dataset:
        return choose(folder.load(split, options), options)

    if not folder.folders:
        return _Source(path, SPLITS, True, read)
    splits = (*folder.folders, ALL) if folder.doubt else tuple(folder.folders)
    return _Source(path, splits, False, read, folder.doubt)


def _path(path: str, member: str, options: DataOptions) -> _Source:
    if path != "-" and holds_pictures(path):
        if member:
            raise UsageError(f"{label(path)} holds images: '::' is of files of arrays")
        return _pictures(path, options)

    @functools.cache  # standard input cannot be read a second time
    def everything(limit: int | None) -> Dataset:
        from arcsm_cli.data.files import load_file

        return replace(load_file(path, limit, options, member), name=name)

    name = f"{path}::{member}" if member else path

    def read(split: str | None) -> Dataset:
        if split is None:
            return _finish(everything(options.limit), options)
        whole = everything(None)
        rows = split_rows(len(whole), split, name)
        return _finish(whole.select(rows[: options.limit], f"{name}:{split}"), options)

    return _Source(name, SPLITS, True, read)


def _dimensions(spec: str, name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_DIMENSIONS:
        raise UsageError(f"{label(spec)}: expected {name}:D with D from 1 to {MAX_DIMENSIONS}")
    return int(text)


def _finish(data: Dataset, options: DataOptions) -> Dataset:
    """Apply the limit, the crop and the size; those that have been applied change nothing."""
    data = data.limit(options.limit)
    if options.center_crop is None and options.resize is None:
        return data
    if data.kind == "vector":
        option = "--resize" if options.center_crop is None else "--center-crop"
        raise UsageError(f"{option}: {label(data.name)} holds vectors, not images")
    return replace(data, values=fit(data.values, options))
