"""Image files to 8-bit tensors, cropped and resized."""

import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from arcsm_cli.data.dataset import MAX_BYTES, DataOptions
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.streams import label, open_regular

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF")
"""What Pillow may decode here; its other formats call programs or are of no use for images."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".pbm", ".webp", ".tif", ".tiff")

MAX_PIXELS = 2**26
"""Larger pictures are refused before they are decoded."""

_GROUP = 512

# nor does what its decoders log belong on stderr, beside the one line of an error
logging.getLogger("PIL").addHandler(logging.NullHandler())


def fit(values: Tensor, options: DataOptions) -> Tensor:
    """Return images cropped and resized as ``options.center_crop`` and ``resize`` say.

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


def load_images(paths: Sequence[Path], options: DataOptions, name: str) -> Tensor:
    """Decode image files to one tensor (uint8, N x C x H x W), in the order given.

    Grey images stay grey (C = 1) unless there are colour ones among them.

    Arguments:
        paths: The files, at least one.
        options: The crop and the size; see `fit`.
        name: The data set, for messages.

    Raises:
        DamagedInputError: A file is no image of a known format, too large, deeper than 8 bits, or
            of another size than the first after cropping and resizing.
        MissingInputError: A file cannot be read.
        UsageError: All together do not fit in memory.
    """
    result = torch.empty(0)
    workers = min(8, os.cpu_count() or 1, len(paths))
    with ExitStack() as stack:
        idle: SimpleQueue[Isolated] = SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(closing(Isolated(_Decoder, label(name)))))
        pool = stack.enter_context(ThreadPoolExecutor(workers))

        def decoded_by_one(path: Path) -> Tensor:
            decoder = idle.get()
            try:
                pixels = decoder.call("pixels", str(path), size=3 * MAX_PIXELS, name=label(path))
            finally:
                idle.put(decoder)
            return fit(torch.from_numpy(pixels)[None], options)[0]

        for start in range(0, len(paths), _GROUP):
            group = paths[start : start + _GROUP]
            decoded = pool.map(decoded_by_one, group)
            for row, image in enumerate(decoded, start):
                if row == 0:
                    if image.numel() * len(paths) > MAX_BYTES:
                        raise UsageError(
                            f"{label(name)}: {len(paths)} images of {_size(image)} do not fit in "
                            "memory; use --resize, --center-crop or --limit"
                        )
                    result = torch.empty(len(paths), *image.shape, dtype=torch.uint8)
                if image.shape[1:] != result.shape[2:]:
                    raise DamagedInputError(
                        f"{label(paths[row])}: {_size(image)} pixels where the images before are "
                        f"{_size(result)}; use --resize to bring them to one size"
                    )
                if image.shape[0] > result.shape[1]:  # the first colour image among grey ones
                    result = result.expand(-1, image.shape[0], -1, -1).clone()
                result[row] = image
    return result


class _Decoder:
    """Pillow and the libraries below it, in a process of their own.

    These write complaints of theirs to standard error and take memory as they see fit.
    """

    def pixels(self, path: str) -> NDArray[np.uint8]:
        """Return what `decode` does."""
        return decode(Path(path))


def decode(path: Path) -> NDArray[np.uint8]:
    """Decode one image file to uint8, C x H x W with C = 1 (grey) or 3 (RGB).

    Transparency is dropped, palettes and other colour models are converted to RGB; of a file
    with several pages the first counts.

    Raises:
        DamagedInputError: It is no image of a known format, too large, or deeper than 8 bits.
        MissingInputError: It cannot be read.
    """
    try:
        file = open_regular(path)
    except OSError as error:
        raise MissingInputError(f"{label(path)}: {error.strerror or error}") from error
    with file, warnings.catch_warnings():
        # Pillow warns about large pictures, which are refused here, and about broken metadata
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DamagedInputError(
                        f"{label(path)}: {width} x {height} pixels; at most {MAX_PIXELS} are read"
                    )
                if image.mode.startswith(("I", "F")):
                    raise DamagedInputError(
                        f"{label(path)}: deeper than 8 bits a channel; convert it to 8 bits"
                    )
                mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
                pixels = np.array(image.convert(mode))
        except DamagedInputError:
            raise
        except Exception as error:  # hostile files make decoders raise nearly anything
            raise DamagedInputError(f"{label(path)}: cannot be decoded as an image") from error
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _middle(values: Tensor, height: int, width: int) -> Tensor:
    height, width = min(height, values.shape[2]), min(width, values.shape[3])
    top, left = (values.shape[2] - height) // 2, (values.shape[3] - width) // 2
    return values[:, :, top : top + height, left : left + width].contiguous()


def _size(values: Tensor) -> str:
    return f"{values.shape[-1]} x {values.shape[-2]}"
