"""Pictures to examples: decoding, transparency, ranges, cropping and resizing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arcsm_cli.data import decoding, images
from arcsm_cli.data.decoding import Picture, decode
from arcsm_cli.data.images import fit, load_images
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from tests.data.loading import Hostile, Save, load


def test_grey_images_among_coloured_ones_become_coloured(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png", "c.png", mode="L")
    save_images(tmp_path, "b.png", mode="RGB")
    values = load(tmp_path).values
    assert values.shape == (3, 3, 8, 8)
    assert all(
        torch.equal(values[2, i], torch.from_numpy(decode(tmp_path / "c.png")[0])[0])
        for i in range(3)
    )


@pytest.mark.parametrize(
    ("suffix", "mode"), [("gif", "L"), ("png", "RGB"), ("tiff", "L"), ("webp", "RGB")]
)
def test_every_page_of_a_file_is_an_image_of_its_class(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    shades = [Image.new("L", (8, 8), 60 * page).convert(mode) for page in range(4)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    lossless = {"lossless": True} if suffix == "webp" else {}
    shades[0].save(
        tmp_path / "a" / f"x.{suffix}", save_all=True, append_images=shades[1:], **lossless
    )
    shades[3].save(tmp_path / "b" / "y.png")
    data = load(tmp_path)
    assert data.values[:, 0, 0, 0].tolist() == [0, 60, 120, 180, 180]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 0, 1]
    assert len(load(tmp_path, limit=2)) == 2


def test_pages_beyond_the_limit_are_not_counted_as_damaged(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), 200) for _ in range(3)]
    for name in ("a.tif", "b.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    data = load(tmp_path, skip_damaged=True, limit=2)
    assert (len(data), data.skipped) == (2, 0)


def test_an_image_file_is_a_set_of_its_pages(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), 100 + page) for page in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert len(load(tmp_path / "x.tif")) == 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
def test_pictures_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((8, 16), 255, np.uint8)
    pixels[:, :8] = 0  # the left half is dark
    turned = Image.Exif()
    turned[0x0112] = 6  # of which the left side is up
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / f"x.{suffix}", exif=turned)
    (upright,) = decode(tmp_path / f"x.{suffix}")
    assert upright.shape == (3, 16, 8)
    assert upright[:, :6].max() < 30
    assert upright[:, 10:].min() > 225


@pytest.mark.parametrize(("background", "level"), [(None, 255), ("white", 255), ("black", 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_background_and_never_what_is_under_it(
    tmp_path: Path, mode: str, background: str | None, level: int
) -> None:
    if mode == "P":
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([10, 200, 30, 90, 90, 91])
        picture.putpixel((0, 0), 0)
        picture.save(tmp_path / "x.png", transparency=0)
    else:
        picture = Image.new(mode, (8, 8), (90, 255) if mode == "LA" else (90, 90, 91, 255))
        picture.putpixel((0, 0), (200, 0) if mode == "LA" else (10, 200, 30, 0))
        picture.save(tmp_path / "x.png")
    values = load(tmp_path, background=background).values[0]
    assert set(values[:, 0, 0].tolist()) == {level}
    assert values[0, 4, 4] == 90


def test_half_opaque_pixels_are_mixed_with_the_background(tmp_path: Path) -> None:
    Image.new("LA", (8, 8), (200, 51)).save(tmp_path / "x.png")
    assert load(tmp_path, background="black").values[0, 0, 0, 0] == 40


@pytest.mark.parametrize(("brightest", "advice"), [(1, "0,1 or --range 0,255"), (21, "0,21")])
def test_masks_and_label_maps_are_refused_until_their_range_is_given(
    tmp_path: Path, brightest: int, advice: str
) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:, :4], pixels[0, 0] = brightest, 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with pytest.raises(DamagedInputError, match=f"--range {advice}"):
        load(tmp_path)
    assert load(tmp_path, value_range="0,255").values.max() == 255


def test_a_range_holds_for_pictures_before_they_are_resized(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, ::2] = 1
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert load(tmp_path, value_range="0,1").values.max() == 1
    assert load(tmp_path, value_range="0,1", resize=2).values.mean() == pytest.approx(0.5)


def test_an_image_that_vanishes_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.png: No such file"):
        decode(tmp_path / "gone.png")[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_colour_models_become_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (4, 3)).save(tmp_path / f"x.{suffix}")
    channels = 1 if mode in ("1", "L", "LA", "P") else 3  # an empty palette is grey
    assert decode(tmp_path / f"x.{suffix}")[0].shape == (channels, 3, 4)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_images_deeper_than_eight_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "x.tiff")
    with pytest.raises(DamagedInputError, match="deeper than 8 bits"):
        decode(tmp_path / "x.tiff")[0]


def test_large_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 11)
    Image.new("L", (4, 3)).save(tmp_path / "x.png")
    with pytest.raises(DamagedInputError, match="4 x 3 pixels"):
        decode(tmp_path / "x.png")[0]


def test_a_picture_bomb_is_an_error_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "x.png")
    with pytest.raises(DamagedInputError, match="10000 x 10000 pixels"):
        load_images([Picture.at(tmp_path / "x.png")], DataOptions(), "x")
    assert not list(recwarn)


def test_sets_that_do_not_fit_in_memory_are_refused_with_a_remedy(
    tmp_path: Path, save_images: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_images(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="--resize"):
        load(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "bmp", "tiff", "ppm", "webp", "gif", "jp2", "avif"]
)
def test_a_cut_or_altered_image_is_damaged_or_read(
    tmp_path: Path, suffix: str, data: st.DataObject, hostile: Hostile
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(bytes(content))
    with hostile():
        decode(path)


def test_a_crop_takes_the_middle() -> None:
    values = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    cropped = fit(values, DataOptions(center_crop=2))
    assert cropped.flatten().tolist() == [14, 15, 20, 21]


def test_a_crop_larger_than_the_image_changes_nothing() -> None:
    values = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    assert torch.equal(fit(values, DataOptions(center_crop=140)), values)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resizing_keeps_type_and_constant_images(dtype: torch.dtype) -> None:
    values = torch.full((2, 3, 17, 11), 1, dtype=dtype)
    resized = fit(values, DataOptions(resize=5))
    assert resized.dtype == dtype
    assert torch.allclose(resized, torch.ones(2, 3, 5, 5, dtype=dtype))


def test_resizing_is_antialiased() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64)
    assert fit(stripes, DataOptions(resize=8)).std().item() < 0.05


def test_cropping_and_resizing_twice_is_the_same_as_once() -> None:
    options = DataOptions(center_crop=20, resize=7)
    once = fit(torch.rand(2, 1, 30, 24), options)
    assert torch.equal(fit(once, options), once)


def test_the_options_hold_for_every_source_of_images(mnist: Path, options: DataOptions) -> None:
    data = load_data("mnist", replace(options, center_crop=20, resize=10), default_split="test")
    assert data.shape == (1, 10, 10)
