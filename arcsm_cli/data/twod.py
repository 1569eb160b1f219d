"""The two-dimensional data sets and the correlated Gaussian.

Every set is centred and scaled so that each coordinate has about unit variance. The points of a
split depend only on the names of the set and the split.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions

Points = NDArray[np.float64]
Parted = tuple[Points, NDArray[Any] | None]
"""Points and the number of the part that each is of, if there are several."""

SIZES = {"train": 50_000, "valid": 10_000, "test": 10_000}
"""Number of points in each split."""

GAUSSIANS_RADIUS = math.sqrt(2)
GAUSSIANS_SCALE = 0.1
"""Radius of the circle of ``8gaussians`` and standard deviation of each component."""

BOARD_CELLS = 4
BOARD_SIDE = math.sqrt(12) / BOARD_CELLS
"""``checkerboard``: cells along a side, and the side of a cell that gives unit variance."""

GAUSSIAN_CORRELATION = 0.8
"""``gaussian:D``: covariance of neighbouring variables."""

_RING_RADII = np.arange(1.0, 5.0)


def read_points(name: str, split: str, options: DataOptions) -> Dataset:
    """See `arcsm_cli.registry.SOURCES`."""
    return load_points(name, split)


def read_gaussian(name: str, split: str, options: DataOptions) -> Dataset:
    """See `arcsm_cli.registry.SOURCES`; ``name`` is ``gaussian:D``."""
    return load_gaussian(int(name.partition(":")[2]), split)


def load_points(name: str, split: str) -> Dataset:
    """Return a split of a two-dimensional set (N x 2), with the part that each point is of.

    Parts are rings, moons, arms, squares and Gaussians; ``swissroll`` has one, and no labels.

    Example:
        >>> load_points("rings", "test").values.shape
        torch.Size([10000, 2])
    """
    label = f"{name}:{split}"
    points, parts = _SHAPES[name](_generator(label), SIZES[split])
    labels = None if parts is None else torch.from_numpy(parts.astype(np.int64))
    return Dataset(label, torch.from_numpy(points.astype(np.float32)), labels)


def load_gaussian(dimensions: int, split: str) -> Dataset:
    """Return a split of the zero-mean Gaussian with `gaussian_covariance` (N x D)."""
    label = f"gaussian:{dimensions}:{split}"
    rng = _generator(label)
    points = np.empty((SIZES[split], dimensions), np.float32)
    # the first-order recursion of the process: no D x D factor, and exact at any D
    state = rng.standard_normal(SIZES[split])
    innovation = math.sqrt(1 - GAUSSIAN_CORRELATION**2)
    for column in range(dimensions):
        if column:
            noise = rng.standard_normal(SIZES[split])
            state = GAUSSIAN_CORRELATION * state + innovation * noise
        points[:, column] = state
    return Dataset(label, torch.from_numpy(points))


def gaussian_covariance(dimensions: int) -> torch.Tensor:
    """Return the covariance 0.8^|i - j| of ``gaussian:D`` (D x D, float64)."""
    index = torch.arange(dimensions, dtype=torch.float64)
    return GAUSSIAN_CORRELATION ** (index[:, None] - index).abs()


def board_corners() -> NDArray[np.float64]:
    """Return the lower left corners of the squares of ``checkerboard`` (8 x 2)."""
    cells = [(i, j) for i in range(BOARD_CELLS) for j in range(BOARD_CELLS) if (i + j) % 2 == 0]
    return (np.array(cells, np.float64) - BOARD_CELLS / 2) * BOARD_SIDE


def gaussians_means() -> NDArray[np.float64]:
    """Return the means of the components of ``8gaussians`` (8 x 2)."""
    angle = np.arange(8) * (math.pi / 4)
    return GAUSSIANS_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _generator(label: str) -> np.random.Generator:
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))


def _polar(radius: Points, angle: Points) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _rings(rng: np.random.Generator, count: int) -> Parted:
    noise = 0.08
    ring = rng.integers(len(_RING_RADII), size=count)
    points = _polar(_RING_RADII[ring], rng.uniform(0, 2 * math.pi, count))
    points += noise * rng.standard_normal((count, 2))
    points /= math.sqrt(float(np.mean(_RING_RADII**2)) / 2 + noise**2)
    return points, ring


def _moons(rng: np.random.Generator, count: int) -> Parted:
    noise = 0.07
    points = _polar(np.ones(count), rng.uniform(0, math.pi, count))
    lower = rng.random(count) < 0.5
    points[lower] = np.array([1.0, 0.5]) - points[lower]
    points += noise * rng.standard_normal((count, 2))
    # moments of the two arcs; each is uniform in the angle
    mean = np.array([0.5, 0.25])
    variance = np.array([0.75, 0.5625 - 1 / math.pi]) + noise**2
    return (points - mean) / np.sqrt(variance), lower


def _spirals(rng: np.random.Generator, count: int) -> Parted:
    noise, turns = 0.2, 3 * math.pi
    angle = turns * np.sqrt(rng.random(count))  # even along the arm
    arm = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    points = _polar(arm * angle, angle) + noise * rng.standard_normal((count, 2))
    return points / math.sqrt(turns**2 / 4 + noise**2), arm < 0


def _checkerboard(rng: np.random.Generator, count: int) -> Parted:
    corners = board_corners()
    square = rng.integers(len(corners), size=count)
    return corners[square] + BOARD_SIDE * rng.random((count, 2)), square


def _pinwheel(rng: np.random.Generator, count: int) -> Parted:
    arms, radial, tangential, bend = 5, 0.3, 0.1, 0.25
    along = 1 + radial * rng.standard_normal(count)
    across = tangential * rng.standard_normal(count)
    arm = rng.integers(arms, size=count)
    angle = 2 * math.pi / arms * arm + bend * np.exp(along)
    points = _polar(along, angle) + _polar(across, angle + math.pi / 2)
    points /= math.sqrt((1 + radial**2 + tangential**2) / 2)
    return points, arm


def _eight_gaussians(rng: np.random.Generator, count: int) -> Parted:
    part = rng.integers(8, size=count)
    return gaussians_means()[part] + GAUSSIANS_SCALE * rng.standard_normal((count, 2)), part


def _swissroll(rng: np.random.Generator, count: int) -> Parted:
    noise = 0.3
    angle = rng.uniform(1.5 * math.pi, 4.5 * math.pi, count)
    points = _polar(angle, angle) + noise * rng.standard_normal((count, 2))
    # integrals of t cos t, t sin t and their squares over the three half turns
    mean = np.array([2.0, 2 / (3 * math.pi)])
    square = 4.875 * math.pi**2 + np.array([-0.25, 0.25])
    return (points - mean) / np.sqrt(square - mean**2 + noise**2), None


_SHAPES: dict[str, Callable[[np.random.Generator, int], Parted]] = {
    "rings": _rings,
    "moons": _moons,
    "spirals": _spirals,
    "checkerboard": _checkerboard,
    "pinwheel": _pinwheel,
    "8gaussians": _eight_gaussians,
    "swissroll": _swissroll,
}
