"""Several files as one: DATA of several words, or of a pattern."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from arcsm_cli.data.dataset import Beside, Dataset
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.notices import note


class Several(str):
    """DATA that consists of several files; as text, what the user wrote.

    Arguments:
        said: the words that the user wrote, some of which may be patterns.
        words: a specification for each file.

    Example:
        >>> shards = Several(["a.h5:test", "b.h5:test"])
        >>> shards.without("test"), shards.without("test").words
        ('a.h5 b.h5', ('a.h5', 'b.h5'))
    """

    said: tuple[str, ...]
    words: tuple[str, ...]

    def __new__(cls, said: Sequence[str], words: Sequence[str] | None = None) -> Several:
        """Make one; without patterns both are the same."""
        found = super().__new__(cls, " ".join(said))
        found.said, found.words = tuple(said), tuple(said if words is None else words)
        return found

    def without(self, split: str | None) -> Several:
        """Return the same without the split that each of them names, if any."""
        if split is None:
            return self
        parts = [[w.removesuffix(f":{split}") for w in each] for each in (self.said, self.words)]
        return Several(*parts)


def together(words: Sequence[str]) -> str:
    """Return one specification for the words that a command was given as DATA.

    Example:
        >>> together(["digits"]), together(["a.h5", "b.h5"]).words
        ('digits', ('a.h5', 'b.h5'))
    """
    return words[0] if len(words) == 1 else Several(words)


def expanded(spec: str) -> str:
    """Return a specification with its pattern, if it is one, replaced by the files that fit it.

    Patterns are those of the shell (``*``, ``?``, ``[...]``, and ``**`` for folders), with or
    without ``::ARRAY`` and ``:SPLIT``; files come in the order of their names. A path that exists
    is none.

    Raises:
        MissingInputError: no file fits.
    """
    if isinstance(spec, Several):
        return Several(spec.said, [word for said in spec.said for word in _fitting(said) or [said]])
    words = _fitting(spec)
    if not words or words == [spec]:
        return spec
    return words[0] if len(words) == 1 else Several([spec], words)


def _fitting(spec: str) -> list[str]:
    if not glob.has_magic(spec) or os.path.exists(spec):
        return []
    path, doubled, rest = spec.partition("::")
    if not doubled:
        path, colon, split = spec.rpartition(":")
        path, rest = (path, f":{split}") if colon and not _files(spec) else (spec, "")
    if doubled:
        rest = f"::{rest}"
    if os.path.exists(path):
        return []
    if not (files := _files(path)):
        raise MissingInputError(f"{label(spec)}: no file fits this pattern")
    return [file + rest for file in files]


def _files(pattern: str) -> list[str]:
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def check_alike(parts: Sequence[Any]) -> None:
    """Check that files can be taken as one.

    Arguments:
        parts: of each, with its ``path``, ``shape`` and ``dtype`` of an example, ``names`` of
            columns, and ``source``, its provenance.

    Raises:
        DamagedInputError: one holds other examples than the first; the message names it.
    """
    first = parts[0]
    for part in parts[1:]:
        for what, ours, theirs in (
            ("examples of shape", _shape(part.shape), _shape(first.shape)),
            ("values of type", _kind(part), _kind(first)),
            ("columns", _names(part.names), _names(first.names)),
        ):
            if ours != theirs:
                raise DamagedInputError(
                    f"{label(part.path)}: has {what} {ours}, and {label(first.path)} {theirs}: "
                    "several files are taken as one only if they hold alike"
                )
        if bool(part.source) != bool(first.source):
            chosen, other = (part, first) if part.source else (first, part)
            raise UsageError(
                f"{label(chosen.path)}: was written by a command that chose its examples, and "
                f"{label(other.path)} has splits by content: ':all' takes all of both"
            )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _kind(part: Any) -> str:
    # Vectors in single and in double precision differ in their digits alone.
    return "number" if len(part.shape) == 1 else str(part.dtype).removeprefix("torch.")


def _names(names: tuple[str, ...] | None) -> str:
    return "without names" if names is None else ", ".join(names)


def joined(parts: Sequence[Dataset], name: str) -> Dataset:
    """Return the examples of several data sets, one after another, under one name.

    Raises:
        DamagedInputError, UsageError: as `check_alike`.
    """
    check_alike([_Part(part) for part in parts])
    first = parts[0]
    labels = [part.labels for part in parts]
    known = [tensor for tensor in labels if tensor is not None]
    if 0 < len(known) < len(parts):
        note("%s: %d of %d files have labels: none are taken", name, len(known), len(parts))
    if any(part.classes != first.classes for part in parts):
        raise DamagedInputError(f"{label(name)}: the classes of its files differ")
    digests = {part.name: part.digest for part in parts}
    return replace(
        first,
        name=name,
        values=torch.cat([part.values for part in parts]),
        labels=torch.cat(known) if len(known) == len(parts) else None,
        digest=digest_of(digests),
        inputs=digests,
        source=sources([part.source for part in parts]),
        skipped=sum(part.skipped for part in parts),
        beside=beside([part.beside for part in parts]),
    )


class _Part:
    def __init__(self, data: Dataset) -> None:
        self.path, self.shape, self.source = data.name, data.shape, data.source
        self.dtype, self.names = data.values.dtype, data.columns


def digest_of(digests: dict[str, str]) -> str:
    """Return one digest for files, by that of each: of a single one, its own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()


def sources(chains: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the provenance of several files, each entry once."""
    found: list[dict[str, Any]] = []
    for chain in chains:
        found += [entry for entry in chain if entry not in found]
    return found


def beside(parts: Sequence[tuple[Beside, ...]]) -> tuple[Beside, ...]:
    """Return what is known of the examples of several parts, one after another.

    Raises:
        DamagedInputError: it is numbers in one part and texts in another.
    """
    return tuple(_merged(same) for same in zip(*parts, strict=True))


def _merged(parts: Sequence[Beside]) -> Beside:
    first = parts[0]
    if any((part.classes is None) != (first.classes is None) for part in parts):
        raise DamagedInputError(f"--given {first.name}: is numbers in one file, texts in another")
    if first.classes is None:
        return first._replace(values=torch.cat([part.values for part in parts]))
    places: dict[str, int] = {}
    values = []
    for part in parts:
        own = [places.setdefault(text, len(places)) for text in part.classes or ()]
        values.append(torch.tensor(own, dtype=torch.int64)[part.values])
    return Beside(first.name, torch.cat(values), tuple(places))
