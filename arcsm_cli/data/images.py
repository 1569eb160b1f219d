"""Images to one tensor of 8 bits, cropped and resized."""

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from arcsm_cli.data.dataset import MAX_BYTES
from arcsm_cli.data.decoding import MAX_PIXELS, Decoder, Picture
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.scale import BYTES, brightest_grey, require_bright, unit_range
from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.streams import label
from arcsm_cli.notices import note

_GROUP = 512


def fit(values: Tensor, options: DataOptions) -> Tensor:
    """Return images cropped and resized as ``options.center_crop`` and ``resize`` say, if they do.

    Arguments:
        values: uint8 or float32, N x C x H x W; the result has the same type and range.
        options: ``center_crop`` S keeps the middle min(S, H) x min(S, W) pixels; ``resize`` S then
            cuts the longer side to a square and scales it to S x S, bilinear and antialiased.
    """
    if options.center_crop is not None:
        values = _middle(values, options.center_crop, options.center_crop)
    side = options.resize
    if side is None:
        return values
    square = min(values.shape[2:])
    values = _middle(values, square, square)
    if square == side:
        return values
    parts = [
        functional.interpolate(
            part.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        for part in torch.split(values, _GROUP)
    ]
    if values.dtype == torch.uint8:
        return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])
    return torch.cat(parts)


class Loaded(NamedTuple):
    """Images of several pictures.

    Attributes:
        values: uint8, or float32 in [0, 1] where another range was given; N x C x H x W.
        places: which picture each is a page of, int64 (N,).
        skipped: how many pictures could not be read and were passed over.
    """

    values: Tensor
    places: Tensor
    skipped: int


def load_images(pictures: Sequence[Picture], options: DataOptions, name: str) -> Loaded:
    """Decode pictures to one tensor, in the order given: every page of every picture.

    Grey images stay grey (C = 1) unless there are colour ones among them.

    Arguments:
        pictures: The files, at least one.
        options: The crop and the size (see `fit`), the range, the background, how many images are
            wanted, and whether damaged files are passed over.
        name: The data set, for messages.

    Raises:
        DamagedInputError: A file is no image of a known format, too large, deeper than 8 bits, or
            of another size than the first after cropping and resizing; or what is black and white
            is open.
        MissingInputError: A file cannot be read.
        UsageError: All together do not fit in memory.
    """
    images = _Images(len(pictures), name)
    workers = min(8, os.cpu_count() or 1, len(pictures))
    damaged: list[str] = []
    longest = 1
    with _Decoders(workers, options, name) as decoders, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(pictures), _GROUP):
            group = pictures[start : start + _GROUP]
            for place, pages in enumerate(pool.map(decoders.pages, group), start):
                if isinstance(pages, ArcsmError):
                    if not options.skip_damaged:
                        raise pages
                    damaged.append(pictures[place].name)
                    continue
                longest = max(longest, len(pages))
                for page in pages:
                    images.add(page, place, pictures[place].name)
        transparent = decoders.transparent()
    if len(damaged) == len(pictures):
        raise DamagedInputError(f"{label(name)}: none of its {len(damaged)} images can be read")
    values, places = images.all(options.limit or options.shuffle)
    if options.value_range is None:
        require_bright(decoders.brightest, label(name))
    if damaged:
        note("%s: damaged images skipped: %d, first %s", label(name), len(damaged), damaged[0])
    if transparent:
        ground = options.background or "white (--background black is the other choice)"
        note("%s: images transparent in places: %d, put over %s", label(name), transparent, ground)
    if longest > 1:
        note("%s: every page of a file is an image, up to %d in one", label(name), longest)
    return Loaded(values, places, len(damaged))


class _Decoders:
    """Several decoders, each in a process of its own, that share the work.

    Attributes:
        brightest: The `brightest_grey` of all pages that they decoded.
    """

    def __init__(self, count: int, options: DataOptions, name: str) -> None:
        self._options, self._name = options, name
        self._idle: SimpleQueue[Isolated] = SimpleQueue()
        self._lock = Lock()
        self._transparent = 0
        self.brightest = 0
        for _ in range(count):
            self._idle.put(self._start())

    def pages(self, picture: Picture) -> list[Tensor] | ArcsmError:
        """Return the pages of a picture, each C x H x W, scaled and fitted, or what is wrong."""
        decoder = self._idle.get()
        try:
            piece = None if picture.piece is None else astuple(picture.piece)
            arguments = (str(picture.path), picture.name, piece)
            count = decoder.call("open", *arguments, size=3 * MAX_PIXELS, name=picture.name)
            wanted = min(count, self._options.limit or count)
            return [self._page(decoder, index, picture.name) for index in range(wanted)]
        except (DamagedInputError, MissingInputError) as error:
            self._end(decoder)
            decoder = self._start()  # the old one may be dead
            advice = "; --skip-damaged goes on without it" if not self._options.skip_damaged else ""
            return type(error)(f"{error}{advice}")
        finally:
            self._idle.put(decoder)

    def transparent(self) -> int:
        """Return of how many pages parts were transparent; to be called when nothing runs."""
        while not self._idle.empty():
            self._end(self._idle.get())
        return self._transparent

    def _page(self, decoder: Isolated, index: int, name: str) -> Tensor:
        pixels = decoder.call("page", index, size=3 * MAX_PIXELS)
        if self._options.value_range is None:
            brightest = brightest_grey(pixels)
            with self._lock:
                self.brightest = max(self.brightest, brightest)
        elif self._options.black_and_white != BYTES:
            pixels = unit_range(pixels, self._options.black_and_white, name)
        return fit(torch.from_numpy(pixels)[None], self._options)[0]

    def _start(self) -> Isolated:
        level = self._options.background_level
        return Isolated(lambda: Decoder(level), label(self._name))

    def _end(self, decoder: Isolated) -> None:
        with contextlib.suppress(DamagedInputError), self._lock:  # it may be dead
            self._transparent += decoder.call("transparent")
        decoder.close()

    def __enter__(self) -> "_Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        self.transparent()


class _Images:
    """A growing tensor of images of one size.

    Arguments:
        count: How many there will be, as far as is known.
        name: The data set, for messages.
    """

    def __init__(self, count: int, name: str) -> None:
        self._name = name
        self._expected = count
        self._values = torch.empty(0)
        self._places: list[int] = []

    def add(self, image: Tensor, place: int, name: str) -> None:
        """Add an image, of the picture at a place and of a name.

        Raises:
            DamagedInputError: It is of another size than those before.
            UsageError: All together do not fit in memory.
        """
        row = len(self._places)
        if row == 0:
            self._values = self._empty(self._expected, image)
        if image.shape[1:] != self._values.shape[2:]:
            raise DamagedInputError(
                f"{name}: {_size(image)} pixels where the images before are "
                f"{_size(self._values)}; use --resize to bring them to one size"
            )
        if row == len(self._values):  # some files have several pages
            more = self._empty(row + max(16, row // 2), self._values[0])
            more[:row] = self._values
            self._values = more
        if image.shape[0] > self._values.shape[1]:  # the first colour image among grey ones
            self._values = self._values.expand(-1, image.shape[0], -1, -1).clone()
        self._values[row] = image
        self._places.append(place)

    def all(self, limit: int | None) -> tuple[Tensor, Tensor]:
        """Return the images, at most so many, and the places of their pictures."""
        count = min(len(self._places), limit or len(self._places))
        return self._values[:count], torch.tensor(self._places[:count])

    def _empty(self, count: int, image: Tensor) -> Tensor:
        if image.numel() * image.element_size() * count > MAX_BYTES:
            raise UsageError(
                f"{label(self._name)}: {count} images of {_size(image)} do not fit in "
                "memory; use --resize, --center-crop or --limit"
            )
        return torch.empty(count, *image.shape, dtype=image.dtype)


def _middle(values: Tensor, height: int, width: int) -> Tensor:
    height, width = min(height, values.shape[2]), min(width, values.shape[3])
    top, left = (values.shape[2] - height) // 2, (values.shape[3] - width) // 2
    return values[:, :, top : top + height, left : left + width].contiguous()


def _size(values: Tensor) -> str:
    return f"{values.shape[-1]} x {values.shape[-2]}"
