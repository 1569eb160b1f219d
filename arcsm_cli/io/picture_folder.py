"""Samples as a folder of pictures, for programs that read those."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arcsm_cli.errors import UsageError

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.json"
"""The chain of commands behind the pictures, beside them."""

_OURS = re.compile(rf"(-?[0-9]+{re.escape(os.sep)})?[0-9]{{6,}}\.png|{re.escape(PROVENANCE)}")
_VISIBLE = 0.5 / 255  # beyond [0, 1], what rounding does not take away


def is_ours(name: str) -> bool:
    """Whether a file of that name, relative to the folder, is one that we write.

    >>> is_ours("000012.png"), is_ours("3/000012.png"), is_ours("holiday.png")
    (True, True, False)
    """
    return _OURS.fullmatch(name) is not None


class PictureWriter:
    """Writes 8-bit PNG files, numbered from 0, and the provenance.

    Arguments:
        folder: empty; whoever calls makes it appear, see `atomic.atomic_folder`.
        target: what messages call it.
        shape: of an example.
        provenance: the chain of commands.
        by_label: put them in a folder for each label.

    Raises:
        UsageError: examples are no grey or colour images.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        shape: tuple[int, ...],
        provenance: list[dict[str, Any]],
        *,
        by_label: bool = False,
    ) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            held = " x ".join(map(str, shape))
            raise UsageError(
                f"--output {target}: a folder is of grey or colour images, examples are {held}; "
                ".h5 and .npz hold them, and .csv vectors"
            )
        self._folder, self._target, self._by_label = folder, target, by_label
        self._count = self._clipped = 0
        self._left: set[str] = set()
        text = json.dumps(provenance, indent=1, allow_nan=False)
        (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")

    def append(
        self,
        samples: Any,
        *,
        clean: Any = None,
        corrupted: Any = None,
        labels: Any = None,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        """Write images (B, C, H, W) in [0, 1]; labels (B,) name their folders, if they have any.

        Raises:
            UsageError: there are to be folders by label, and no labels.
        """
        beside = {"clean": clean, "corrupted": corrupted, **(statistics or {})}
        if not self._by_label:
            beside["labels"] = labels
        elif labels is None:
            raise UsageError("--by-label: the examples have no labels")
        self._left |= {name for name, values in beside.items() if values is not None}
        values: NDArray[np.float32] = np.asarray(samples)
        outside = (values < -_VISIBLE) | (values > 1 + _VISIBLE)
        self._clipped += int(outside.reshape(len(values), -1).any(1).sum())
        pixels = np.rint(values.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        for i, picture in enumerate(pixels):
            folder = self._folder
            if self._by_label:
                folder = folder / str(int(labels[i]))
                folder.mkdir(exist_ok=True)
            image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
            image.save(folder / f"{self._count:06d}.png", format="PNG")
            self._count += 1

    def say(self) -> None:
        """Say what the folder does not hold."""
        if self._left:
            names = ", ".join(sorted(self._left))
            how = " (--by-label of arcsm data keeps labels)" if "labels" in self._left else ""
            logger.warning("%s: %s left out of the pictures%s", self._target, names, how)
        if self._clipped:
            logger.warning(
                "%s: values of %d pictures are outside of [0, 1] and were clipped",
                *(self._target, self._clipped),
            )
