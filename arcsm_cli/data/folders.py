"""Folders and archives of images, with split and class folders in them."""

from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.images import load_images
from arcsm_cli.data.listing import Listing, listing_of, readable
from arcsm_cli.data.names import SPLIT_FOLDERS, SPLITS
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.splits import ALL, Hashes, file_hash, split_rows
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.streams import label, show
from arcsm_cli.notices import note

_SHOWN = 10  # names in a message


class ImageFolder:
    """Images in a folder or an archive, or a file of one or several pages.

    If it has folders called ``train``, ``valid`` or ``test``, or by another usual name of these
    (`names.SPLIT_FOLDERS`), they are its splits. Otherwise, it is one set of images, whose splits
    follow from the bytes of each file (see `arcsm_cli.data.splits`). All images below a folder
    count, in the order of their paths; when each lies in a sub-folder, the first one is its class,
    numbered in the order of the names. What was recognised and what was skipped is said.

    Arguments:
        path: Where, as of `listing.holds_pictures`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def listing(self) -> Listing:
        """What there is.

        Raises:
            MissingInputError: The folder cannot be read.
            DamagedInputError: There are no images, or an archive is damaged.
        """
        found = listing_of(self.path)
        if not found.pictures:
            raise DamagedInputError(
                f"{label(self.path)}: there are no images in it (.png, .jpg, .tif, ...)"
                + _counted("; it holds ", found.skipped)
            )
        return found

    @cached_property
    def folders(self) -> dict[str, str]:
        """The folders that hold splits, by split.

        Raises:
            MissingInputError, DamagedInputError: As of `listing`; also if two hold the same.
        """
        found: dict[str, str] = {}
        for top in sorted({parts[0] for parts in self.listing.pictures if len(parts) > 1}):
            split = SPLIT_FOLDERS.get(top.lower())
            if split in found:
                raise DamagedInputError(
                    f"{label(self.path)}: both {show(found[split])} and {show(top)} are names of "
                    f"the {split} split: join them, or rename one"
                )
            if split is not None:
                found[split] = top
        return {split: found[split] for split in SPLITS if split in found}

    @cached_property
    def beside(self) -> list[str]:
        """What lies beside split folders: names of other folders with images, and of images."""
        tops = {parts[0] for parts in self.listing.pictures}
        return sorted(tops - set(self.folders.values()))

    @property
    def doubt(self) -> str:
        """What to do about a folder called like a split that may be a class; empty if none is."""
        if len(self.folders) != 1 or not self.beside:
            return ""
        ((split, top),) = self.folders.items()
        where = label(self.path)
        return (
            f"{where}: {show(top)} may be the {split} split or one of the classes, beside "
            f"{_names(self.beside)}: {where}:{split} is that folder, {where}:{ALL} all of them"
        )

    @cached_property
    def hashes(self) -> Hashes:
        """A hash of the bytes of each file: no image is decoded only to be left out.

        Raises:
            MissingInputError, DamagedInputError: As of `listing`; also if one cannot be read.
        """
        found = []
        with readable(self.path, list(self.listing.pictures.values())) as pictures:
            for picture in pictures:
                with picture.open() as file:
                    found.append(file_hash(file))
        return np.array(found, np.uint64)

    def chosen(self) -> bool:
        """Whether a command of this program chose the examples: never."""
        return False

    def load(self, split: str | None, options: DataOptions) -> Dataset:
        """Decode the images of a split that ``options`` takes, or of everything for ``None``.

        Raises:
            DamagedInputError: There are no images, or one is damaged or of another size.
            MissingInputError: An image cannot be read.
            UsageError: There are too few images to split, or too many for the memory.
        """
        if options.layout is not None:
            raise UsageError(f"--layout is of arrays, and {label(self.path)} holds image files")
        name = str(self.path) if split is None else f"{self.path}:{split}"
        pictures = self.listing.pictures
        top = self.folders.get(split or "")
        if top is not None:
            pictures = {
                parts[1:]: each for parts, each in pictures.items() if parts[0] == top and parts[1:]
            }
        classes = sorted({parts[0] for parts in pictures})
        labels = None
        if all(len(parts) > 1 for parts in pictures):
            labels = torch.tensor([classes.index(parts[0]) for parts in pictures])
        rows = torch.arange(len(pictures))
        if split in SPLITS and top is None:
            rows = split_rows(self.hashes, split, str(self.path))
        rows = rows[options.chosen(len(rows))]
        every = list(pictures.values())
        taken = [every[row] for row in rows.tolist()]
        self._say(split, len(pictures), None if labels is None else classes)
        with readable(self.path, taken) as open_to_all:
            loaded = load_images(open_to_all, options, name)
        return Dataset(
            name,
            loaded.values,
            None if labels is None else labels[rows][loaded.places],
            "" if self.path.is_dir() else sha256_file(self.path),
            classes=None if labels is None else tuple(classes),
            skipped=loaded.skipped,
        )

    def _say(self, split: str | None, count: int, classes: list[str] | None) -> None:
        parts = [f"{count} files"]
        if split in self.folders:
            parts[0] += f" in the folder {show(self.folders[split])}"
            if self.beside:
                parts.append(f"not the {_names(self.beside)} beside it")
        if classes is not None:
            parts.append(f"{len(classes)} classes, numbered in order: {_names(classes)}")
        parts += filter(None, [_counted("skipped: ", self.listing.skipped)])
        if len(parts) > 1 or split in self.folders:
            name = label(self.path) if split is None else f"{label(self.path)}:{split}"
            note("%s: %s", name, "; ".join(parts))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(show(name, 30) for name in names[:_SHOWN]) + more


def _counted(before: str, skipped: Counter[str]) -> str:
    kinds = skipped.most_common(_SHOWN)
    more = ", ..." if len(skipped) > _SHOWN else ""
    text = ", ".join(f"{number} {show(kind, 20)[1:-1]}" for kind, number in kinds)
    return f"{before}{text}{more}" if skipped else ""
