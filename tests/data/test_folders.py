"""Folders and archives of images: what is read, in which order, as what split and class."""

import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcsm_cli.data.archives import members
from arcsm_cli.data.decoding import decode
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.provenance import sha256_file
from tests.data.loading import Hostile, Save, load


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
