"""Samples as folders of pictures: what they hold, and that programs of others read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from arcsm_cli.io.samples import SampleFile, SampleWriter

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

pytest_plugins = ["tests.evaluation.inception"]
Call = Callable[..., "Done"]


@pytest.fixture
def images(tmp_path: Path) -> Any:
    """Colour images of 6 x 5 pixels, in samples.h5 with labels."""
    values = np.random.default_rng(0).random((9, 3, 6, 5)).astype(np.float32)
    with SampleWriter(tmp_path / "samples.h5", (3, 6, 5), [{"command": "sample"}]) as writer:
        writer.append(values, labels=np.arange(9) % 3 + 5)
    return values


def pixels(folder: Path) -> Any:
    """The pictures of a folder, N x C x H x W in [0, 255]."""
    read = [np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))]
    return np.stack(read).transpose(0, 3, 1, 2)


def test_pictures_are_the_samples_in_order_to_eight_bits(
    images: Any, call: Call, tmp_path: Path
) -> None:
    done = call("data", "samples.h5", "-o", "out/")
    assert (done.code, done.out, done.err.count("labels left out")) == (0, b"", 1)
    assert (pixels(tmp_path / "out") == np.rint(images * 255)).all()
    chain = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert [step["command"] for step in chain] == ["sample", "data"]


def test_folders_by_label_are_read_back_with_their_labels(
    images: Any, call: Call, tmp_path: Path
) -> None:
    assert call("data", "samples.h5", "--by-label", "-o", "out/", "-q").code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["5", "6", "7"]
    assert call("data", "out:all", "-o", "back.h5", "-q").code == 0
    with SampleFile(tmp_path / "back.h5") as file:
        assert file.read(0, 9, "labels").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        back = file.read(0, 9)
    np.testing.assert_allclose(back, images[[0, 3, 6, 1, 4, 7, 2, 5, 8]], atol=0.51 / 255)


def test_what_a_folder_cannot_hold_is_refused_and_leaves_none(
    images: Any, call: Call, tmp_path: Path
) -> None:
    np.save(tmp_path / "vectors.npy", images.reshape(9, -1)[:, :4])
    np.savez(tmp_path / "plain.npz", images)
    for arguments in (
        ["vectors.npy", "-o", "out/"],
        ["plain.npz", "--by-label", "-o", "out/"],
        ["samples.h5", "--by-label", "-o", "out.h5"],
    ):
        done = call("data", *arguments, "-q")
        assert (done.code, done.err.count("\n")) == (2, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"samples.h5", "vectors.npy", "plain.npz"}


def test_a_folder_is_replaced_as_a_whole_and_only_if_all_in_it_is_ours(
    images: Any, call: Call, tmp_path: Path
) -> None:
    assert call("data", "samples.h5", "-o", "out/").code == 0
    assert call("data", "samples.h5", "--limit", 2, "-o", "out/").code == 73
    assert call("data", "samples.h5", "--limit", 2, "-o", "out/", "--force").code == 0
    assert len(pixels(tmp_path / "out")) == 2
    (tmp_path / "out" / "holiday.png").write_bytes(b"")
    assert call("data", "samples.h5", "-o", "out/", "--force").code == 73
    assert (tmp_path / "out" / "holiday.png").exists()


@pytest.fixture
def folders(images: Any, call: Call, tmp_path: Path) -> tuple[str, str]:
    """Two folders, of the first images and of the others."""
    assert call("data", "samples.h5", "--limit", 5, "-o", "first/", "-q").code == 0
    with SampleWriter(tmp_path / "others.h5", (3, 6, 5), []) as writer:
        writer.append(images[5:])
    assert call("data", "others.h5", "-o", "others/", "-q").code == 0
    return str(tmp_path / "first"), str(tmp_path / "others")


@pytest.mark.slow
@pytest.mark.slow
def test_torch_fidelity_finds_the_samples_in_a_folder(
    images: Any, folders: tuple[str, str], inception_state: Any, tmp_path: Path
) -> None:
    import torch
    from torch_fidelity import calculate_metrics

    weights = tmp_path / "random.pth"
    torch.save(inception_state, weights)
    bytes_of = torch.from_numpy(np.rint(images * 255).astype(np.uint8))

    def fid(one: Any, other: Any) -> float:
        found = calculate_metrics(
            input1=one,
            input2=other,
            fid=True,
            cuda=False,
            cache=False,
            verbose=False,
            feature_layer_fid="64",
            feature_extractor_weights_path=str(weights),
        )
        return float(found["frechet_inception_distance"])

    class Held(torch.utils.data.Dataset[Any]):
        def __init__(self, values: Any) -> None:
            self.values = values

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, index: int) -> Any:
            return self.values[index]

    found = fid(*folders)
    assert found > 0
    assert found == pytest.approx(fid(Held(bytes_of[:5]), Held(bytes_of[5:])), rel=1e-6)


def test_pytorch_fid_finds_the_samples_in_a_folder(images: Any, folders: tuple[str, str]) -> None:
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    import torch

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3)

    class Features(torch.nn.Module):
        """Stands for Inception, as the program calls it: a list of features, (B, F, 1, 1)."""

        def forward(self, x: Any) -> Any:
            return [convolution(x).relu().mean((2, 3), keepdim=True)]

    def statistics(folder: str) -> Any:
        return fid_score.compute_statistics_of_path(folder, Features(), 3, 4, "cpu", 0)

    ours, theirs = map(statistics, folders)
    exact = torch.from_numpy(np.rint(images * 255) / 255).float()
    with torch.no_grad():
        features = Features()(exact[:5])[0].flatten(1).double().numpy()
    np.testing.assert_allclose(ours[0], features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(ours[1], np.cov(features, rowvar=False), rtol=1e-3, atol=1e-9)
    assert fid_score.calculate_frechet_distance(*ours, *theirs) > 0
