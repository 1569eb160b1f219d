"""Folders of images, and decoding, cropping and resizing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arcsm_cli.data import images
from arcsm_cli.data.dataset import DataOptions, Dataset
from arcsm_cli.data.images import decode, fit, load_images
from arcsm_cli.data.spec import load_data, train_and_valid
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError

Save = Callable[..., None]
Hostile = Callable[[], AbstractContextManager[None]]


def load(path: Path | str, split: str = "test", **given: int) -> Dataset:
    return load_data(str(path), DataOptions(**given), default_split=split)  # type: ignore[arg-type]


def test_a_flat_folder_is_read_whole_in_the_order_of_names(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "b.png", "a.png", "c.bmp")
    data = load(tmp_path)
    assert torch.equal(data.values[1], torch.from_numpy(decode(tmp_path / "b.png")))
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
    train, valid = train_and_valid(str(tmp_path), DataOptions())
    assert (len(train), valid.name) == (2, f"{tmp_path}:valid")


def test_a_split_that_a_folder_lacks_is_refused_with_those_it_has(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, "train/1.png")
    with pytest.raises(UsageError, match="no split 'test'; its splits: train"):
        load(tmp_path)


def test_splits_of_a_folder_without_split_folders_share_no_image(
    tmp_path: Path, save_images: Save
) -> None:
    save_images(tmp_path, *(f"{i}.png" for i in range(20)))
    parts = [load(f"{tmp_path}:{split}").values for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert len(torch.unique(torch.cat(parts), dim=0)) == 20


def test_the_limit_holds_before_decoding(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    assert len(load(tmp_path, limit=1)) == 1


def test_hidden_and_other_files_are_passed_over(tmp_path: Path, save_images: Save) -> None:
    save_images(tmp_path, "a.png", ".thumbs/a.png", ".b.png")
    (tmp_path / "README.txt").write_text("about")
    assert len(load(tmp_path)) == 1


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
        torch.equal(values[2, i], torch.from_numpy(decode(tmp_path / "c.png"))[0]) for i in range(3)
    )


def test_an_image_that_vanishes_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.png: No such file"):
        decode(tmp_path / "gone.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_colour_models_become_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (4, 3)).save(tmp_path / f"x.{suffix}")
    channels = 1 if mode in ("1", "L", "LA") else 3
    assert decode(tmp_path / f"x.{suffix}").shape == (channels, 3, 4)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_images_deeper_than_eight_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "x.tiff")
    with pytest.raises(DamagedInputError, match="deeper than 8 bits"):
        decode(tmp_path / "x.tiff")


def test_large_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 11)
    Image.new("L", (4, 3)).save(tmp_path / "x.png")
    with pytest.raises(DamagedInputError, match="4 x 3 pixels"):
        decode(tmp_path / "x.png")


def test_a_picture_bomb_is_an_error_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "x.png")
    with pytest.raises(DamagedInputError, match="10000 x 10000 pixels"):
        load_images([tmp_path / "x.png"], DataOptions(), "x")
    assert not list(recwarn)


def test_sets_that_do_not_fit_in_memory_are_refused_with_a_remedy(
    tmp_path: Path, save_images: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_images(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="--resize"):
        load(tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "ppm", "webp"])
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
