"""Which axis of an array is which: guessed where one reading is possible, else to be told.

A layout names the axes in order: N (examples), C (channels), H and W (height and width of a
picture), D (all values of a vector). ``NHWC`` are colour pictures with the channels last, ``HW`` is
one grey picture, ``ND`` are vectors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError, UsageError

Array = NDArray[Any]

_PICTURES, _VECTORS = "NCHW", "ND"
_COMMON = (1, 3)  # channels of grey and of colour pictures
_WITH_OPACITY = (2, 4)
_GUESSED = ("NCHW", "NHWC", "HWCN")


def arranged(array: Array, layout: str) -> Array:
    """Return an array as vectors N x D or pictures N x C x H x W, given what its axes are.

    Where D is last it stands for all axes that are left; N and C that are missing have length 1.

    Raises:
        UsageError: The array has another number of axes.

    Example:
        >>> arranged(np.zeros((28, 30, 3)), "HWC").shape, arranged(np.zeros((5, 4, 2)), "ND").shape
        ((1, 3, 28, 30), (5, 8))
    """
    if layout.endswith("D") and array.ndim > len(layout):
        array = array.reshape(*array.shape[: len(layout) - 1], -1)
    if array.ndim != len(layout):
        raise UsageError(
            f"--layout {layout} is of {len(layout)} axes, where the array is {sides(array.shape)}"
        )
    axes = _PICTURES if "H" in layout else _VECTORS
    array = array.transpose([layout.index(axis) for axis in axes if axis in layout])
    missing = tuple(place for place, axis in enumerate(axes) if axis not in layout)
    return np.expand_dims(array, missing)


def guess(
    array: Array,
    where: str,
    count: int | None = None,
    *,
    opacity: bool = False,
    columns: bool = False,
) -> str:
    """Return the only layout that an array can have.

    Two axes are vectors and three are grey pictures, unless the array could as well be one picture;
    of four axes, the channels are 1 or 3. Labels, one for each example, rule out other readings.

    Arguments:
        array: The array.
        where: The input, for messages.
        count: How many labels there are beside it, if any.
        opacity: Whether 2 and 4 channels may be guessed: grey or colour, and opacity.
        columns: Whether it is of MATLAB, where examples are often along the last axis.

    Raises:
        DamagedInputError: There are several readings, or none; the message says with which option
            to decide.
    """
    shape = array.shape
    found = _readings(array) + ["HWN"] * (columns and array.ndim == 3)
    if count is not None:
        rare = {3: ["HWN"], 4: ["CHWN"]}.get(array.ndim, [])
        found = _fitting(found, shape, count) or _fitting(rare, shape, count) or found
    if not found and array.ndim == 4:
        found = _channelled(shape, _WITH_OPACITY)
        if len(found) == 1 and not opacity:
            channels = shape[found[0].index("C")]
            raise DamagedInputError(
                f"{where}: shape {sides(shape)}, with {channels} channels: --background white or "
                f"black if the last of them is opacity, --layout {found[0]} if it is one more"
            )
    if len(found) == 1:
        return found[0]
    if array.ndim == 1:
        raise DamagedInputError(
            f"{where}: shape {sides(shape)}: --layout N if these are {shape[0]} examples of one "
            "number, D if they are one example"
        )
    if found:
        ways = found if array.ndim == 2 else [*found, "ND (vectors)"]
        raise DamagedInputError(
            f"{where}: shape {sides(shape)} can be read in several ways: --layout says which, "
            + ", ".join(ways)
        )
    raise DamagedInputError(
        f"{where}: shape {sides(shape)}; expected vectors N x D or pictures of 1 or 3 channels: "
        "--layout says what the axes are, as NHWC, NCHW, HWCN, or ND for vectors"
    )


def sides(shape: tuple[int, ...]) -> str:
    """Return what messages call a shape: ``20x8x8``."""
    return "x".join(map(str, shape)) or "scalar"


def _readings(array: Array) -> list[str]:
    shape = array.shape
    match array.ndim:
        case 2:  # bytes are more often a picture's than a table's
            return ["ND", "HW"] if array.dtype == np.uint8 else ["ND"]
        case 3:
            found = ["NHW"]
            found += ["HWC"] * (shape[2] in (*_COMMON, 4))
            found += ["CHW"] * (shape[0] == 3)  # of one channel it is the same
            return found
        case 4:
            return _channelled(shape, _COMMON)
    return []


def _channelled(shape: tuple[int, ...], channels: tuple[int, ...]) -> list[str]:
    """Return the layouts by which pictures have so many channels, and are no mere lines."""
    side = {layout: dict(zip(layout, shape, strict=True)) for layout in _GUESSED}
    return [
        layout for layout, of in side.items() if of["C"] in channels and of["H"] > 1 and of["W"] > 1
    ]


def _fitting(layouts: list[str], shape: tuple[int, ...], count: int) -> list[str]:
    lengths = {of: shape[of.index("N")] if "N" in of else 1 for of in layouts}
    return [layout for layout, length in lengths.items() if length == count]
