"""Which numbers are black and white in a picture: guessed where one reading is possible.

Bytes are taken to run from 0 to 255 and fractions from 0 to 1, unless all that is neither black
nor white lies within the darkest eighth: masks of 0 and 1, label maps, digits of 16 levels and
pictures that were divided twice look so, and as pictures they would be almost black.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError

Array = NDArray[Any]

FAINT = 32
"""Bytes below this are dark; where only they are between black and white, ``--range`` decides."""

_TOLERANCE = 1e-4
BYTES = (0.0, 255.0)


def brightest_grey(pixels: NDArray[np.uint8]) -> int:
    """Return the brightest byte that is not white, 0 if all are black or white.

    Example:
        >>> brightest_grey(np.array([0, 3, 255], np.uint8)), brightest_grey(np.zeros(2, np.uint8))
        (3, 0)
    """
    return int(np.max(pixels, where=pixels != 255, initial=0))


def require_bright(brightest: int, where: str) -> None:
    """Check that bytes can only be meant to run from 0 to 255, given their `brightest_grey`.

    Raises:
        DamagedInputError: They may be labels.
    """
    if 0 < brightest < FAINT:
        raise DamagedInputError(
            f"{where}: pixels run from 0 to {brightest} of 255, as of masks and label maps: say "
            f"what is black and white, --range 0,{brightest} or --range 0,255"
        )


def unit_range(array: Array, given: tuple[float, float] | None, where: str) -> Array:
    """Return pictures as bytes (0 is black, 255 white) or float32 in [0, 1].

    Arguments:
        array: Pictures of any shape, finite.
        given: What is black and what white; ``None`` to find out.
        where: The input, for messages.

    Raises:
        DamagedInputError: Two readings are possible, or values lie outside the range.
    """
    if array.dtype == np.uint8 and given in (None, BYTES):
        if given is None:
            require_bright(brightest_grey(array), where)
        return array
    low, high = float(array.min()), float(array.max())
    return scaled(array, *black_and_white(array.dtype, low, high, given, where))


def black_and_white(
    kind: np.dtype[Any], low: float, high: float, given: tuple[float, float] | None, where: str
) -> tuple[float, float]:
    """Return what is black and white in pictures that are not bytes as they are.

    Arguments:
        kind: Of their numbers.
        low, high: The least and the largest of these.
        given, where: As of `unit_range`, which says what is raised.
    """
    if given is None:
        whole = kind.kind in "iu"
        if whole or low < -_TOLERANCE or high > 1 + _TOLERANCE or 0 < high * 255 < FAINT:
            raise DamagedInputError(
                f"{where}: pixels run from {low:g} to {high:g}: say what is black and white, "
                f"--range {_suggestion(low, high)}"
            )
        given = (0.0, 1.0)
    black, white = given
    ends = sorted((end - black) / (white - black) for end in (low, high))
    if ends[0] < -_TOLERANCE or ends[1] > 1 + _TOLERANCE:
        raise DamagedInputError(
            f"{where}: pixels run from {low:g} to {high:g}, beyond --range {black:g},{white:g}"
        )
    return given


def scaled(array: Array, black: float, white: float) -> NDArray[np.float32]:
    """Return pictures as float32 in [0, 1]; what lies beyond is cut off."""
    if array.dtype == bool:
        array = array.astype(np.float32)
    exact = np.can_cast(array.dtype, np.float32)
    found: Array = array.astype(np.float32 if exact else np.float64)
    np.subtract(found, black, out=found)
    np.divide(found, white - black, out=found)
    single: NDArray[np.float32] = found.astype(np.float32, copy=False)
    return np.clip(single, 0, 1, out=single)


def composited(array: Array, background: int) -> Array:
    """Return pictures N x (1 or 3) x H x W of those whose last channel is opacity.

    Arguments:
        array: N x (2 or 4) x H x W, bytes or in [0, 1]; of the same type is the result.
        background: The byte of what shows where nothing covers it.
    """
    most = 255 if array.dtype == np.uint8 else 1
    opacity = array[:, -1:].astype(np.float32) / most
    ground = background / 255 * most
    mixed = array[:, :-1] * opacity + ground * (1 - opacity)
    return (np.rint(mixed) if most == 255 else mixed).astype(array.dtype)


def _suggestion(low: float, high: float) -> str:
    if low < 0:
        known = [-bound for bound in (1, 128, 32768) if -bound <= low and high <= bound]
        return f"{known[0]},{-known[0]}" if known else f"{low:g},{high:g}"
    known = [bound for bound in (1, 255, 65535) if high <= bound]
    faint = f" or 0,{high:g}" if known and high * FAINT / 4 < known[0] else ""
    return f"0,{known[0]}{faint}" if known else f"0,{high:g}"
