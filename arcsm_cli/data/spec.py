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
from typing import NamedTuple, Protocol

from arcsm_cli.data.columns import check_size, choose, fitted
from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import MAX_BYTES, Beside, Dataset, Rows, require_finite
from arcsm_cli.data.folders import ImageFolder
from arcsm_cli.data.given import told
from arcsm_cli.data.images import fit
from arcsm_cli.data.listing import holds_pictures
from arcsm_cli.data.names import (
    splits_of,
    suggestion,
)
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.several import Several, expanded, joined
from arcsm_cli.data.splits import (
    ALL,
    PARTS,
    Hashes,
    content_hashes,
    count_of,
    split_rows,
)
from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.streams import label, local_input, show, sniff
from arcsm_cli.processors import usable_memory
from arcsm_cli.registry import SOURCES

MOST_HELD = 0.5
"""Share of the memory that this process may use, beyond which training data stay in their files."""

MAX_DIMENSIONS = 1024
"""Largest D of ``gaussian:D``."""


class _Undivided(Protocol):
    """A source without splits of its own, which has those of `arcsm_cli.data.splits`."""

    @property
    def hashes(self) -> Hashes:
        """What decides the split of each example."""

    def chosen(self) -> bool:
        """Whether a command of this program wrote it, and chose its examples."""


@dataclass(frozen=True)
class _Source:
    """Something that data can be read from.

    ``splits`` are those it can be asked for, none of a reference. ``read`` takes one of them, or
    None for everything. ``doubt`` says why one has to be named.
    """

    name: str
    splits: tuple[str, ...]
    read: Callable[[str | None, DataOptions], Dataset]
    undivided: _Undivided | None = None
    doubt: str = ""

    def choose(self, asked: str | None, default: str) -> str | None:
        """Return the split to read, ``None`` for everything."""
        if asked is None and (self.undivided or not self.splits):
            return None
        if asked == ALL and self.undivided:
            return None
        if asked is None and self.doubt:
            raise DamagedInputError(self.doubt)
        return _checked(asked or default, self.splits, self.name)


def _checked(split: str, splits: Sequence[str], name: str) -> str:
    """Return a split, refusing one that there is not."""
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise UsageError(f"{label(name)} has no split {show(split)}; its splits: {there}")
    return split


class TrainingData(NamedTuple):
    """What a run is given of DATA.

    Attributes:
        train, valid: to train on, and held out for the validation loss.
        part: the split trained on, of a source that has those of `arcsm_cli.data.splits`; else
            empty.
        whole: how many examples such a source has.
        test: how many of them are left for the test.
    """

    train: Rows
    valid: Rows
    part: str = ""
    whole: int = 0
    test: int = 0


def load_data(
    spec: str,
    options: DataOptions,
    *,
    default_split: str,
    like: tuple[int, ...] | None = None,
    names: Sequence[str] = (),
    given: Conditions = (),
    part: Callable[[Dataset], str | None] | None = None,
) -> Dataset:
    """Load the data that a specification names.

    Arguments:
        spec: The specification.
        options: Where and how to load it.
        default_split: The split of a source with splits of its own when ``spec`` names none; a
            file is then taken as a whole.
        like: Shape of one example of the model, which ``uniform`` and ``constant-uniform`` take.
        names: Of the model's columns, as which those of a table are taken, in the model's order.
        given: What the model is told of each example, which the data have to say.
        part: Of a source without splits of its own, when ``spec`` names none: given all of it,
            says which split to take, ``None`` for everything.

    Returns:
        The examples: images N x C x H x W or vectors N x D, at least one and all finite.

    Raises:
        MissingInputError: ``spec`` is neither a known name nor an existing path.
        UsageError: There is no such split, or an option does not fit the data.
        UnavailableError: The data set has to be downloaded first, or that failed.
        DamagedInputError: A file is damaged or of a kind that holds no data, its columns are not
            those of ``names``, or it does not say what is to be given.

    Example:
        >>> load_data("digits", DataOptions(limit=100), default_split="train").values.shape
        torch.Size([100, 1, 8, 8])
    """
    options = options.told(given)
    source, asked = _open(spec, options, like)
    split = source.choose(asked, default_split)
    undivided = source.undivided
    if part is not None and asked is None and undivided is not None and not undivided.chosen():
        split = part(fitted(source.read(None, options.everything), names))
    return told(fitted(source.read(split, options), names), given)


def load_beside(spec: str, options: DataOptions) -> tuple[Beside, ...]:
    """Return what data say of each example as ``--given`` asks for it, in its order.

    A table needs no other columns; of data with splits it is those of the test split.

    Raises:
        ArcsmError: As `load_data`.
    """
    path = path_of(spec)
    if path is None or os.path.isdir(path) or not (path == "-" or os.path.exists(path)):
        return load_data(spec, options, default_split="test").beside
    from arcsm_cli.data.files import is_table
    from arcsm_cli.data.tables import read_table

    with local_input(path) as file:
        if is_table(file):
            return read_table(file, options, values=False).beside
        # A pipe can be read only once: from here on its spool file stands for it.
        where = spec if os.path.isfile(path) else os.fspath(file)
        return load_data(where, options, default_split="test").beside


def load_training(spec: str, options: DataOptions, *, stream: bool | None = False) -> TrainingData:
    """Load training data and held-out validation data.

    The validation split serves where there is one: of the source's own, or of
    `arcsm_cli.data.splits` for a file or a folder without. Otherwise, and of everything that such a
    file holds (``FILE:all``, or a file that this program wrote), a tenth of the training data is
    held out (see `Dataset.carve`). The test split is never touched, unless ``spec`` names it as the
    data to train on. The choice of ``options`` holds for both.

    Arguments:
        spec, options: As of `load_data`.
        stream: Leave the examples of HDF5 files there, and read them as they are needed
            (`streamed.StreamedRows`); None if they take more memory than `MOST_HELD`.

    Raises:
        ArcsmError: As `load_data`; also if there are fewer than two examples, or if data are to be
            left in their files that are in none.
    """
    if stream is not False and (found := _in_files(spec, options, stream)) is not None:
        return found
    source, asked = _open(spec, options, None)
    undivided = source.undivided
    if undivided is not None and asked is None and not undivided.chosen():
        asked = "train"
    split = source.choose(asked, "train")
    train = source.read(split, options)
    if split == "train" and "valid" in source.splits:
        valid = source.read("valid", options)
    else:
        train, valid = train.carve()
    if undivided is None or split is None:
        return TrainingData(train, valid)
    hashes = undivided.hashes
    test = count_of(hashes, "test") if split == "train" else 0
    return TrainingData(train, valid, split, len(hashes), test)


def _in_files(spec: str, options: DataOptions, stream: bool | None) -> TrainingData | None:
    """Return training data that stay in their files, None if they are to be held in memory."""
    from arcsm_cli.data.row_files import RowFiles
    from arcsm_cli.data.streamed import training_parts

    spec = expanded(spec)
    paths, member, asked = _files(spec)
    if not all(os.path.isfile(path) and sniff(Path(path)) == "samples" for path in paths):
        if stream:
            raise UsageError(
                f"--stream yes: {label(spec)} is not in HDF5 files (.h5), as 'arcsm data' makes"
            )
        return None
    if isinstance(spec, Several):
        name: str = spec.without(asked)
    else:
        name = spec.removesuffix(f":{asked}") if asked else spec
    try:
        files = RowFiles(paths, member, options, name)
    except ArcsmError:
        if stream:
            raise
        return None  # what is wrong, reading it into memory will say
    if stream is None and files.memory <= min(MAX_BYTES, MOST_HELD * usable_memory()):
        files.close()
        return None
    if asked is None and not files.chosen:
        asked = "train"
    split = None if asked is None else _checked(asked, PARTS, name)
    return TrainingData(*training_parts(files, split, options))


def _files(spec: str) -> tuple[tuple[str, ...], str, str | None]:
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


def _open(
    spec: str, options: DataOptions, like: tuple[int, ...] | None
) -> tuple[_Source, str | None]:
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


def _named(name: str, like: tuple[int, ...] | None) -> _Source:
    kind = name.partition(":")[0]
    load = SOURCES[kind]

    def read(split: str | None, options: DataOptions) -> Dataset:
        if split is None:  # in the shape of the model, with nothing to choose from
            return choose(load(name, like, options), DataOptions(given=options.given))
        return _finish(choose(_loaded(kind, load(name, split, options)), options), options)

    return _Source(name, splits_of(kind), read)


def _loaded(kind: str, data: Dataset) -> Dataset:
    """Check what a plugin's source gives; our own check theirs."""
    if SOURCES.part(kind).origin:
        if not isinstance(data, Dataset) or len(data) == 0:
            raise DamagedInputError(f"{kind}: its plugin gives no Dataset with examples")
        require_finite(data.values, label(data.name))
    return data


def _pictures(path: str, options: DataOptions) -> _Source:
    folder = ImageFolder(Path(path))

    def read(split: str | None, options: DataOptions) -> Dataset:
        return choose(folder.load(split, options), options)

    if not folder.folders and len(folder.listing.pictures) == 1:  # its pages are examples
        plain = replace(options, center_crop=None, resize=None)
        return _held(path, lambda limit: read(None, replace(plain.everything, limit=limit)))
    if not folder.folders:
        return _Source(path, PARTS, read, folder)
    splits = (*folder.folders, ALL) if folder.doubt else tuple(folder.folders)
    return _Source(path, splits, read, doubt=folder.doubt)


def _path(path: str, member: str, options: DataOptions) -> _Source:
    if path != "-" and holds_pictures(path):
        if member:
            raise UsageError(f"{label(path)} holds images: '::' is of files of arrays")
        return _pictures(path, options)
    name = f"{path}::{member}" if member else path

    def load(limit: int | None) -> Dataset:
        from arcsm_cli.data.files import load_file

        return replace(load_file(path, limit, options, member), name=name)

    return _held(name, load)


def _several(spec: Several, options: DataOptions) -> tuple[_Source, str | None]:
    paths, member, asked = _files(spec)
    name = spec.without(asked)

    def load(limit: int | None) -> Dataset:
        from arcsm_cli.data.files import load_file

        return joined([load_file(path, None, options, member) for path in paths], name).limit(limit)

    return _held(name, load), asked


def _held(name: str, load: Callable[[int | None], Dataset]) -> _Source:
    held = _Held(name, load)
    return _Source(name, PARTS, held.read, held)


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
