"""Grids of images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcsm_cli.plotting.images import write_grid, write_rows


def ramp(count: int, channels: int = 1, side: int = 8) -> np.ndarray:
    """Images of one value each, from 0 to 1."""
    levels = np.linspace(0, 1, count, dtype=np.float32)
    return np.broadcast_to(levels[:, None, None, None], (count, channels, side, side))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_images_stand_row_by_row(tmp_path: Path) -> None:
    write_grid(ramp(6), tmp_path / "grid.png", columns=3)
    pixels = read(tmp_path / "grid.png")
    height, width = pixels.shape
    centres = [
        int(pixels[height * (2 * i + 1) // 4, width * (2 * j + 1) // 6])
        for i in range(2)
        for j in range(3)
    ]
    assert centres == [0, 51, 102, 153, 204, 255]


def test_tensors_and_arrays_give_the_same_grid(tmp_path: Path) -> None:
    images = ramp(4).copy()
    write_grid(images, tmp_path / "array.png")
    write_grid(torch.from_numpy(images), tmp_path / "tensor.png")
    assert (tmp_path / "array.png").read_bytes() == (tmp_path / "tensor.png").read_bytes()


def test_small_images_are_enlarged_without_blur(tmp_path: Path) -> None:
    checks = (np.indices((2, 2)).sum(0) % 2).astype(np.float32)[None, None]
    write_grid(checks, tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    assert min(pixels.shape) >= 480
    assert len(np.unique(pixels)) == 3  # black, white, the line around


def test_large_images_keep_their_size(tmp_path: Path) -> None:
    write_grid(ramp(1, side=600), tmp_path / "grid.png")
    assert read(tmp_path / "grid.png").shape[0] in range(600, 610)


def test_colours_are_kept(tmp_path: Path) -> None:
    red = np.zeros((1, 3, 4, 4), np.float32)
    red[:, 0] = 1
    write_grid(red, tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    assert pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB")])
def test_any_number_of_channels_is_drawn(channels: int, mode: str, tmp_path: Path) -> None:
    write_grid(ramp(4, channels), tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == mode


def test_values_outside_the_range_are_clipped(tmp_path: Path) -> None:
    write_grid(np.array([-5.0, 9.0], np.float32).reshape(2, 1, 1, 1), tmp_path / "grid.png")
    assert {0, 255} <= set(np.unique(read(tmp_path / "grid.png")).tolist())


def test_a_single_version_is_an_ordinary_grid(tmp_path: Path) -> None:
    write_grid(ramp(9), tmp_path / "grid.png")
    write_rows({"restored": ramp(9)}, tmp_path / "rows.png", "png")
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "rows.png").read_bytes()


def test_versions_stand_under_each_other(tmp_path: Path) -> None:
    black, grey, white = (np.full((5, 1, 8, 8), level, np.float32) for level in (0, 0.5, 1))
    rows = {"clean": black, "corrupted": grey, "restored": white}
    write_rows(rows, tmp_path / "rows.png", "png")
    pixels = read(tmp_path / "rows.png")[..., 0]
    height, width = pixels.shape
    x = width - (width - 120) // 10  # the middle of the last column, right of the names
    assert [int(pixels[height * (2 * i + 1) // 6, x]) for i in range(3)] == [0, 128, 255]


def test_the_last_rows_may_be_shorter(tmp_path: Path) -> None:
    versions = {"clean": ramp(5), "restored": ramp(5)}
    write_rows(versions, tmp_path / "rows.png", "png", columns=3)
    pixels = read(tmp_path / "rows.png")[..., 0]
    assert (pixels[-pixels.shape[0] // 4 :, -20:] == 255).all()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_equal_images_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows({"clean": ramp(3), "restored": ramp(3)}, tmp_path / name, kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
