"""Image files to 8-bit pixels, page by page: what runs Pillow, in a process of its own.

The libraries below Pillow write complaints of theirs to standard error and take memory as they see
fit (see `arcsm_cli.io.isolated`).
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from arcsm_cli.data.archives import Piece
from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError
from arcsm_cli.io.streams import label, open_regular

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF", "GIF", "JPEG2000", "AVIF", "MPO")
"""What Pillow may decode here; its other formats call programs or are of no use for images."""

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".webp", ".tif", ".tiff", ".gif", ".jp2", ".j2k", ".avif"),
)

MAX_PIXELS = 2**26
"""Larger pictures are refused before they are decoded."""

MAX_PAGES = 2**20
"""Files of more pages are refused."""

WHITE = 255

_MAGIC = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)

# what Pillow's decoders log does not belong on stderr, beside the one line of an error
logging.getLogger("PIL").addHandler(logging.NullHandler())


def is_picture(head: bytes) -> bool:
    """Return whether a file is an image by its first bytes (12 or more), where these can tell."""
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_MAGIC) or webp or head[4:12] == b"ftypavif"


@dataclass(frozen=True)
class Picture:
    """An image file, in a folder or an archive.

    Attributes:
        path: The file, or the (unpacked) archive.
        name: What messages call it.
        piece: Where in the archive it lies.
    """

    path: Path
    name: str
    piece: Piece | None = None

    @classmethod
    def at(cls, path: Path) -> "Picture":
        """Return the picture that a file of its own is."""
        return cls(path, label(path))

    def open(self) -> IO[bytes]:
        """Open it for reading.

        Raises:
            MissingInputError: It cannot be read.
            DamagedInputError: It is no regular file, or its archive is damaged.
        """
        try:
            file = open_regular(self.path)
            if self.piece is None:
                return file
            with file:
                return io.BytesIO(self.piece.read(file, self.name))
        except OSError as error:
            raise MissingInputError(f"{self.name}: {error.strerror or error}") from error


class Decoder:
    """Decodes one picture after another.

    Arguments:
        background: The byte that shows where a picture is transparent.
    """

    def __init__(self, background: int = WHITE) -> None:
        self._background = background
        self._file: IO[bytes] | None = None
        self._image: Image.Image | None = None
        self._name = ""
        self._transparent = 0

    def open(self, path: str, name: str, piece: list[int | str] | None = None) -> int:
        """Open a picture, in place of the one before, and return how many pages it has.

        Frames of an animation are pages, too. A photograph that brings its own preview (MPO) has
        one page.

        Raises:
            DamagedInputError: It is no image of a known format, or too large.
            MissingInputError: It cannot be read.
        """
        self.close()
        self._name = name
        picture = Picture(Path(path), name, None if piece is None else Piece(*piece))  # type: ignore[arg-type]
        self._file = picture.open()
        with self._errors():
            self._image = Image.open(self._file, formats=FORMATS)
            self._check_size()
            pages = 1 if self._image.format == "MPO" else int(getattr(self._image, "n_frames", 1))
        if pages > MAX_PAGES:
            raise DamagedInputError(f"{name}: {pages} pages; at most {MAX_PAGES} are read")
        return pages

    def page(self, index: int) -> NDArray[np.uint8]:
        """Decode a page of the open picture to C x H x W with C = 1 (grey) or 3 (RGB).

        It is turned upright as its EXIF orientation says. Palettes and other colour models become
        grey, if they are, or RGB. What is transparent lets the background through.

        Raises:
            DamagedInputError: It is damaged, too large, or deeper than 8 bits.
        """
        image = self._image
        assert image is not None
        with self._errors():
            if index:
                image.seek(index)
                self._check_size()
            if image.mode.startswith(("I", "F")):
                raise DamagedInputError(
                    f"{self._name}: deeper than 8 bits a channel; convert it to 8 bits"
                )
            image.load()
            upright = image
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                upright = ImageOps.exif_transpose(image)
            pixels = np.array(self._opaque(upright).convert("L" if _is_grey(upright) else "RGB"))
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(planes)

    def transparent(self) -> int:
        """Return of how many pages parts were transparent, so far."""
        return self._transparent

    def close(self) -> None:
        """Close the open picture."""
        if self._image is not None:
            self._image.close()
        if self._file is not None:
            self._file.close()
        self._image = self._file = None

    def _opaque(self, image: Image.Image) -> Image.Image:
        if not image.has_transparency_data:
            return image
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema() == (255, 255):
            return layers
        self._transparent += 1
        ground = Image.new("RGBA", layers.size, (*(self._background,) * 3, 255))
        return Image.alpha_composite(ground, layers)

    def _check_size(self) -> None:
        assert self._image is not None
        width, height = self._image.size
        if width * height > MAX_PIXELS:
            raise DamagedInputError(
                f"{self._name}: {width} x {height} pixels; at most {MAX_PIXELS} are read"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with warnings.catch_warnings():
            # Pillow warns about large pictures, which are refused here, and about broken metadata
            warnings.simplefilter("ignore")
            try:
                yield
            except (ArcsmError, MemoryError):
                raise
            except Exception as error:  # hostile files make decoders raise nearly anything
                raise DamagedInputError(f"{self._name}: cannot be decoded as an image") from error


def decode(path: Path) -> list[NDArray[np.uint8]]:
    """Decode all pages of an image file, in this process; see `Decoder.page`.

    Raises:
        DamagedInputError: It is no image of a known format, too large, or deeper than 8 bits.
        MissingInputError: It cannot be read.
    """
    decoder = Decoder()
    try:
        return [decoder.page(index) for index in range(decoder.open(str(path), label(path)))]
    finally:
        decoder.close()


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in ("1", "L", "LA", "La")
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())
