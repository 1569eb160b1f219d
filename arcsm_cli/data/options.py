"""What the command line says about data, besides the specification itself."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from arcsm_cli.data.conditions import LABELS, Conditions
from arcsm_cli.errors import UsageError
from arcsm_cli.options import check_bounds, option

if TYPE_CHECKING:
    from torch import Tensor


class Asked(NamedTuple):
    """Something that ``--given`` names: a column of numbers or texts, or labels, and whose name."""

    name: str
    labels: bool


@dataclass(frozen=True)
class DataOptions:
    """How a specification is read. Every command that takes DATA has these options.

    An option more is a field here: flags, ``--config``, help and the reference follow from it.

    Arguments:
        data_dir: Root of the downloaded data sets; ``None`` stands for the environment variable
            ``ARCSM_DATA``, else a folder in the user's cache.
        download: Whether a missing torchvision data set may be fetched.
        center_crop: Side in pixels of the square cut from the middle of each image; a side that
            is shorter already is left as it is.
        resize: Side in pixels to which images are resized (antialiased), after cutting the
            longer side to a square.
        limit: Take only the first ``limit`` examples.
        shuffle: Take only ``shuffle`` examples, at random.
        header: Whether the first line of a text table names its columns; None to find out.
        columns, drop: The columns of vectors that are taken, in this order, and that are left out:
            names or numbers from 1, see `column_list`.
        layout: What the axes of an array are, in order, by the letters N, C, H, W and D (see
            `layout.arranged`); ``None`` to find out.
        value_range: What is black and what is white in images, as ``0,255``; ``None`` to find out.
        background: What shows where images are transparent; ``None`` is white, and leaves two and
            four channels of arrays for what they are.
        skip_damaged: Go on past image files that cannot be read.
        given: What a conditional model is to be told of each example, which is then no part of its
            values: see `asked`.
        seed: Seed of ``shuffle`` and of the generated references (``uniform``,
            ``constant-uniform``); the command's.

    Raises:
        UsageError: A number is out of bounds, ``limit`` and ``shuffle`` are both given, or a list
            of columns, a layout or a range is none.
    """

    data_dir: Path | None = option(
        None,
        "Where downloaded data sets are.",
        metavar="DIR",
        shown="a cache folder",
        env="ARCSM_DATA",
    )
    download: bool = option(False, "Fetch a data set or network weights that are not there yet.")
    center_crop: int | None = option(
        None, "Cut the middle N x N pixels first.", metavar="N", least=1
    )
    resize: int | None = option(None, "Scale images to N x N pixels.", metavar="N", least=1)
    limit: int | None = option(None, "Take the first N examples.", metavar="N", least=1)
    shuffle: int | None = option(
        None, "Take N examples at random, the same at an equal seed.", metavar="N", least=1
    )
    header: Literal["yes", "no"] | None = option(
        None, "Whether the first line of a table names its columns.", shown="found out"
    )
    columns: str | None = option(
        None,
        "Take these columns of vectors, by name or number from 1, in this order.",
        metavar="A,B,...",
        shown="all",
    )
    drop: str | None = option(None, "Leave these columns out.", metavar="A,B,...", shown="none")
    layout: str | None = option(
        None,
        "Axes of an array in order: NHWC, NCHW, NHW, HWCN, HWC, HW, or ND for vectors.",
        metavar="AXES",
        shown="if only one is possible, that",
    )
    value_range: str | None = option(
        None,
        "Numbers that are black and white in images, as 0,255, 0,1 or -1,1.",
        metavar="BLACK,WHITE",
        shown="if only one is possible, that",
        flags=("--range",),
    )
    background: Literal["white", "black"] | None = option(
        None,
        "What shows where images are transparent; of arrays, takes the last of 2 or 4 channels as "
        "opacity.",
        shown="white",
    )
    skip_damaged: bool = option(False, "Pass over image files that cannot be read.")
    given: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        column_list("--columns", self.columns)
        column_list("--drop", self.drop)
        _ = self.asked
        if self.limit is not None and self.shuffle is not None:
            raise UsageError("give --limit (the first N) or --shuffle (N at random), not both")
        if self.layout is not None:
            _check_layout(self.layout)
        _ = self.black_and_white

    def chosen(self, count: int) -> Tensor:
        """Return which of ``count`` examples are taken (int64), in order; all if there are fewer.

        Example:
            >>> DataOptions(limit=2).chosen(5).tolist(), DataOptions(shuffle=9).chosen(3).tolist()
            ([0, 1], [0, 1, 2])
        """
        import torch

        from arcsm_cli.randomness import Purpose, generator_for

        if self.shuffle is None or self.shuffle >= count:
            return torch.arange(min(count, self.limit or count))
        generator = generator_for(self.seed, Purpose.SUBSET, 0)
        return torch.randperm(count, generator=generator)[: self.shuffle]

    @property
    def everything(self) -> DataOptions:
        """The same options, but for all examples."""
        return replace(self, limit=None, shuffle=None)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What ``given`` names: ``labels``, ``labels=NAME`` (of a column or array), or columns.

        Raises:
            UsageError: something is named twice.

        Example:
            >>> DataOptions(given="labels=species,age").asked
            (Asked(name='species', labels=True), Asked(name='age', labels=False))
        """
        found = []
        for text in column_list("--given", self.given):
            is_labels = text == LABELS or text.startswith(f"{LABELS}=")
            name = text.removeprefix(f"{LABELS}=").strip()
            found.append(Asked(name or LABELS, is_labels))
        if len({item.name for item in found}) < len(found):
            raise UsageError(f"--given {self.given}: names something twice")
        return tuple(found)

    @property
    def labels_named(self) -> str:
        """The column or array that ``labels=NAME`` names; empty if none."""
        return next((a.name for a in self.asked if a.labels and a.name != LABELS), "")

    def told(self, conditions: Conditions) -> DataOptions:
        """The same options with what a model is told of each example; see `given`."""
        if not conditions:
            return self
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([each.asked for each in conditions])
        return replace(self, given=text.getvalue())

    @property
    def black_and_white(self) -> tuple[float, float] | None:
        """The two numbers of ``value_range``."""
        if self.value_range is None:
            return None
        try:
            black, white = map(float, self.value_range.split(","))
        except ValueError:
            black = white = math.nan
        if not (math.isfinite(black) and math.isfinite(white) and black != white):
            raise UsageError(
                f"--range {self.value_range}: expected what is black and what is white, as 0,255"
            )
        return black, white

    @property
    def background_level(self) -> int:
        """The byte of the background."""
        return 0 if self.background == "black" else 255

    @property
    def root(self) -> Path:
        """The folder that holds the torchvision data sets."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        configured = os.environ.get("ARCSM_DATA")
        if configured:
            return Path(configured).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "arcsm"


def column_list(option: str, text: str | None) -> tuple[str, ...]:
    """Return the columns that an option names: parted by commas, quoted where a name holds one.

    Raises:
        UsageError: there is no name between two commas, or a quote is left open.

    Example:
        >>> column_list("--drop", 'age,"height, cm",7')
        ('age', 'height, cm', '7')
    """
    if text is None:
        return ()
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"{option} {text}: {error}") from error
    names = [name.strip() for row in rows for name in row]
    if not names or not all(names):
        raise UsageError(f"{option} {text!r}: expected names or numbers of columns, A,B,...")
    return tuple(names)


def _check_layout(text: str) -> None:
    letters = set(text)
    pictures = letters <= set("NCHW") and {"H", "W"} <= letters
    if len(letters) != len(text) or not (pictures or letters in ({"N", "D"}, {"N"}, {"D"})):
        raise UsageError(
            f"--layout {text}: expected the axes in order, as NHWC, NCHW, NHW, HWCN, HWC, HW or ND "
            "(N examples, C channels, H height, W width, D values of a vector)"
        )


DEFAULT = DataOptions()
