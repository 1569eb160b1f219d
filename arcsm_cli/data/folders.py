"""Folders of images, with split and class folders in them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from arcsm_cli.data.dataset import DataOptions, Dataset, split_rows
from arcsm_cli.data.images import SUFFIXES, load_images
from arcsm_cli.data.names import SPLITS
from arcsm_cli.errors import DamagedInputError, MissingInputError
from arcsm_cli.io.streams import label

_ALIASES = {"val": "valid", "validation": "valid"}


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images.

    If it has folders called ``train``, ``valid`` (also ``val``, ``validation``) or ``test``,
    these are its splits. Otherwise, it is one set of images, and a split of it a fixed shuffle
    parted 80/10/10. All images below a folder count, in the order of their paths; when each lies
    in a sub-folder, the first one is its class, numbered in the order of the names.
    """

    path: Path

    @property
    def folders(self) -> dict[str, Path]:
        """The folders that hold splits, by split.

        Raises:
            MissingInputError: The folder cannot be read.
        """
        try:
            found = {
                _ALIASES.get(entry.name, entry.name): entry
                for entry in sorted(self.path.iterdir())
                if entry.is_dir()
            }
        except OSError as error:
            _unreadable(error)
        return {split: found[split] for split in SPLITS if split in found}

    def load(self, split: str | None, options: DataOptions) -> Dataset:
        """Decode the first ``options.limit`` images of a split, or of everything for ``None``.

        Raises:
            DamagedInputError: There are no images, or one is damaged or of another size.
            MissingInputError: An image cannot be read.
            UsageError: There are too few images to split, or too many for the memory.
        """
        name = str(self.path) if split is None else f"{self.path}:{split}"
        folder = self.folders.get(split or "", self.path)
        paths = _images(folder)
        classes = [path.relative_to(folder).parts[0] for path in paths]
        if all(len(path.relative_to(folder).parts) > 1 for path in paths):
            numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
            labels = torch.tensor([numbers[name] for name in classes])
        else:
            labels = None
        if split is not None and folder == self.path:
            rows = split_rows(len(paths), split, str(self.path))
            paths = [paths[row] for row in rows.tolist()]
            labels = None if labels is None else labels[rows]
        if options.limit is not None:
            paths = paths[: options.limit]
            labels = None if labels is None else labels[: options.limit]
        return Dataset(name, load_images(paths, options, name), labels)


def _images(folder: Path) -> Sequence[Path]:
    found: list[Path] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        found += [
            Path(parent, file)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
        inside = {name: os.path.realpath(Path(parent, name)) for name in folders}
        # linked folders count, but a link that leads back would go on for ever
        folders[:] = [n for n in folders if not n.startswith(".") and inside[n] not in seen]
        seen.update(inside.values())
    if not found:
        raise DamagedInputError(
            f"{label(folder)}: there are no images in this folder (.png, .jpg, .bmp, ...)"
        )
    return sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    raise MissingInputError(f"{label(error.filename)}: {error.strerror or error}") from error
