"""Folders of images, and decoding, cropping and resizing."""

import tarfile
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arcsm_cli.data import decoding, images
from arcsm_cli.data.archives import members
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.decoding import Picture, decode
from arcsm_cli.data.images import fit, load_images
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.provenance import sha256_file

Save = Callable[..., None]
Hostile = Callable[[], AbstractContextManager[None]]


def load(path: Path | str, split: str = "test", **given: Any) -> Dataset:
    return load_data(str(path), DataOptions(**given), default_split=split)


def test_a_flat_folder_is_read_whole_in_the_order_of_names(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "b.png", "a.png", "c.bmp")
    data = load(tmp_path)
    assert torch.equal(data.values[1], torch.from_numpy(decode(tmp_path / "b.png")[0]))
    assert data.labels is None


def test_class_folders_give_labels_in_the_order_of_their_names(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "dog/1.png", "cat/1.png", "cat/deep/2.png")
    labels = load(tmp_path).labels
    assert labels is not None
    assert labels.tolist() == [0, 0, 1]


def test_split_folders_are_splits(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "train/1.png", "train/2.png", "test/1.png")
    assert [len(load(tmp_path)), len(load(f"{tmp_path}:train"))] == [1, 2]


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_training_validates_on_the_validation_folder(
    tmp_path: Path, save_images: Save, name: str
) -> None:
    save_images(tmp_path, "train/1.png", "train/2.png", f"{name}/1.png", "test/1.png")
    train, valid = load_training(str(tmp_path), DataOptions())[:2]
    assert (len(train), valid.name) == (2, f"{tmp_path}:valid")


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "TESTING"), ("train", "test")]
)
def test_split_folders_are_known_by_their_usual_names(
    tmp_path: Path, save_images: Save, train: str, test: str
) -> None:
    save_images(tmp_path, f"{train}/1.png", f"{train}/2.png", f"{test}/1.png")
    assert [len(load(f"{tmp_path}:{split}")) for split in ("train", "test")] == [2, 1]


def test_two_folders_of_one_split_are_refused(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "train/1.png", "val/1.png", "dev/1.png")
    with pytest.raises(DamagedInputError, match="'dev' and 'val'"):
        load(tmp_path)


@pytest.mark.parametrize("beside", ["bus/1.png", "1.png"])
def test_one_folder_called_like_a_split_may_be_a_class_and_is_refused_until_said(
    tmp_path: Path, save_images: Save, beside: str
) -> None:
    save_images(tmp_path, "train/1.png", "train/2.png", beside)
    with pytest.raises(DamagedInputError, match=r"'train' may be .*:train is .*:all all"):
        load(tmp_path, "train")
    assert len(load(f"{tmp_path}:train")) == 2
    assert len(load(f"{tmp_path}:all")) == 3


def test_all_of_a_folder_has_the_folders_as_classes(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "train/1.png", "bus/1.png", "car/1.png")
    labels = load(f"{tmp_path}:all").labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 2]


def test_a_split_that_a_folder_lacks_is_refused_with_those_it_has(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "train/1.png")
    with pytest.raises(UsageError, match="no split 'test'; its splits: train"):
        load(tmp_path)


def test_splits_of_a_folder_without_split_folders_share_no_image(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, *(f"{i}.png" for i in range(40)))
    parts = [load(f"{tmp_path}:{split}").values for split in ("train", "valid", "test")]
    assert len(torch.unique(torch.cat(parts), dim=0)) == 40


def test_an_image_of_a_folder_falls_alike_under_any_name(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, *(f"{i:02}.png" for i in range(40)))
    before = load(f"{tmp_path}:test").values
    for i in range(40):
        (tmp_path / f"{i:02}.png").rename(tmp_path / f"x{99 - i}.png")
    assert torch.equal(load(f"{tmp_path}:test").values.flip(0), before)


def test_the_limit_holds_before_decoding(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    assert len(load(tmp_path, limit=1)) == 1


def test_hidden_and_other_files_are_passed_over(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png", ".thumbs/a.png", ".b.png")
    (tmp_path / "README.txt").write_text("about")
    assert len(load(tmp_path)) == 1


def test_what_is_passed_over_is_said_by_kind(
    tmp_path: Path, save_images: Save, caplog: pytest.LogCaptureFixture
) -> None:
    save_images(tmp_path, "a.png", ".b.png")
    for name in ("a.heic", "b.heic", "c.npy", "README"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        load(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert all(part in line for part in ("2 .heic", "1 .npy", "1 without suffix", "1 hidden"))


def test_damaged_images_are_passed_over_and_counted_where_that_is_asked(
    tmp_path: Path, save_images: Save, caplog: pytest.LogCaptureFixture
) -> None:
    save_images(tmp_path, "x/a.png", "y/c.png")
    (tmp_path / "x" / "b.png").write_bytes(b"not an image")
    with pytest.raises(DamagedInputError, match=r"b\.png.*--skip-damaged"):
        load(tmp_path)
    with caplog.at_level("INFO"):
        data = load(tmp_path, skip_damaged=True)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]
    assert any("damaged images skipped: 1" in record.getMessage() for record in caplog.records)
    assert data.skipped == 1


def test_pages_beyond_the_limit_are_not_counted_as_damaged(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), 200) for _ in range(3)]
    for name in ("a.tif", "b.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    data = load(tmp_path, skip_damaged=True, limit=2)
    assert (len(data), data.skipped) == (2, 0)


def test_a_folder_of_nothing_but_damaged_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(DamagedInputError, match="none of its 1 images"):
        load(tmp_path, skip_damaged=True)


def test_linked_folders_count_and_circles_end(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "elsewhere/1.png", "data/b/1.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b" / "circle").symlink_to(tmp_path / "data")
    assert len(load(tmp_path / "data")) == 2


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedInputError, match="no images"):
        load(tmp_path)


def test_images_of_different_sizes_are_refused_with_a_remedy(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "a.png", size=(8, 8))
    save_images(tmp_path, "b.png", size=(9, 8))
    with pytest.raises(DamagedInputError, match=r"b\.png: 9 x 8 .* use --resize"):
        load(tmp_path)


def test_resizing_brings_images_of_different_sizes_together(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "a.png", size=(8, 8))
    save_images(tmp_path, "b.png", size=(20, 9))
    assert load(tmp_path, resize=4).shape == (1, 4, 4)


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


def test_a_layout_is_of_no_use_for_pictures(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png")
    with pytest.raises(UsageError, match="--layout"):
        load(tmp_path, layout="NHWC")


def pack(folder: Path, archive: Path) -> Path:
    """Pack what is in a folder, below a folder of its name, by the suffix of the archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(folder.rglob("*.*")):
                packed.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
            tar.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_is_read_as_the_folder_that_it_was_made_of(
    tmp_path: Path, save_images: Save, suffix: str
) -> None:
    names = ("train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/1.png")
    save_images(tmp_path / "set", *names)
    archive = pack(tmp_path / "set", tmp_path / f"packed{suffix}")
    for split in ("train", "test"):
        folder, packed = load(f"{tmp_path / 'set'}:{split}"), load(f"{archive}:{split}")
        assert torch.equal(packed.values, folder.values)
        assert packed.digest == sha256_file(archive)
        assert packed.labels is not None
        assert folder.labels is not None
        assert torch.equal(packed.labels, folder.labels)


def test_what_an_archive_calls_its_members_is_no_place_to_write_to_or_read_from(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "in/a.png", "out/secret.png")
    inside = (tmp_path / "in" / "a.png").read_bytes()
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("../../escaped.png", inside)
        packed.writestr("/escaped.png", inside)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "in" / "a.png", "a.png")
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "out" / "secret.png")
        tar.addfile(link)
    assert len(load(tmp_path / "x.zip")) == 2
    assert len(load(tmp_path / "x.tar")) == 1
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "x.zip", tmp_path / "x.tar"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_cut_or_altered_archive_is_damaged_or_read(
    tmp_path: Path, save_images: Save, suffix: str, data: st.DataObject, hostile: Hostile
) -> None:
    sound, archive = tmp_path / f"sound{suffix}", tmp_path / f"packed{suffix}"
    if not sound.exists():
        save_images(tmp_path / "set", "a.png", "b.png")
        pack(tmp_path / "set", sound)
    content = bytearray(sound.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    archive.write_bytes(bytes(content))
    with hostile():
        for name, piece in members(archive, suffix[1:]):
            with archive.open("rb") as file:
                piece.read(file, name)


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
