"""Distances in feature space, and the features of Inception v3."""

import hashlib
import logging
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import save_file
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation import feature_weights, image_features
from arcsm_cli.evaluation.image_features import InceptionFeatures, feature_distances

pytest_plugins = ["tests.evaluation.inception"]

Distances = Callable[..., dict[str, float]]


def images(n: int, seed: int = 0, shape: tuple[int, ...] = (1, 2, 3), scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def distances() -> Distances:
    """Distances of images whose features are their own pixels."""

    def measure(x: Tensor, y: Tensor, *metrics: str, size: int = 16, **options: Any) -> Any:
        return feature_distances(
            lambda batch: batch.flatten(1),
            x.split(size),
            y.split(size),
            counts=(len(x), len(y)),
            metrics=list(metrics),
            features=math.prod(x.shape[1:]),
            **options,
        )

    return measure


def frechet(x: Tensor, y: Tensor) -> float:
    """The Frechet distance of two Gaussians, with a matrix root in float64."""
    a, b = (t.flatten(1).double().numpy() for t in (x, y))
    p, q = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(p @ q).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(p + q - 2 * root))


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased squared MMD with the kernel (a b / F + 1)^3, pair by pair."""
    a, b = (t.flatten(1).double().tolist() for t in (x, y))

    def kernel(p: list[float], q: list[float]) -> float:
        return float(sum(map(float.__mul__, p, q)) / len(p) + 1) ** 3

    def mean(s: list[list[float]], t: list[list[float]], *, same: bool) -> float:
        pairs = [
            kernel(p, q) for i, p in enumerate(s) for j, q in enumerate(t) if not (same and i == j)
        ]
        return sum(pairs) / len(pairs)

    return mean(a, a, same=True) + mean(b, b, same=True) - 2 * mean(a, b, same=False)


@pytest.mark.parametrize("seed", range(3))
def test_fid_is_the_frechet_distance_of_the_features(distances: Distances, seed: int) -> None:
    x, y = images(70, seed), images(90, seed + 10, scale=1.5) + 0.3
    assert distances(x, y, "fid")["fid"] == pytest.approx(frechet(x, y), rel=1e-9)


def test_fid_of_a_shift_is_its_square(distances: Distances) -> None:
    x = images(70)
    assert distances(x, x + 0.5, "fid")["fid"] == pytest.approx(6 * 0.25, rel=1e-5)


def test_identical_sets_are_at_no_distance(distances: Distances) -> None:
    x = images(70)
    found = distances(x, x, "fid", "kid")
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert abs(found["kid"]) < 3 * found["kid_sd"]


def test_kid_of_two_pairs_is_its_definition(distances: Distances) -> None:
    x, y = images(2), images(2, 1) + 1
    found = distances(x, y, "kid")
    assert found["kid"] == pytest.approx(squared_mmd(x, y), rel=1e-4)
    assert found["kid_sd"] == pytest.approx(0, abs=1e-5)


def test_kid_is_the_mean_over_subsets(distances: Distances) -> None:
    x, y = images(60), images(50, 1) + 1
    found = distances(x, y, "kid")
    assert found["kid_sd"] > 0
    assert found["kid"] == pytest.approx(squared_mmd(x, y), abs=found["kid_sd"])


@pytest.mark.slow
def test_kid_of_one_distribution_is_zero_on_average(distances: Distances) -> None:
    values = [distances(images(20, 2 * i), images(30, 2 * i + 1), "kid")["kid"] for i in range(30)]
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    assert abs(mean) < 3 * sd / math.sqrt(len(values))


def test_the_subsets_depend_on_the_seed_alone(distances: Distances) -> None:
    x, y = images(60), images(50, 1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = distances(x, y, "kid", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert distances(x, y, "kid", seed=3) == first
    assert distances(x, y, "kid", seed=4) != first


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_batch_size_does_not_matter(distances: Distances, size: int) -> None:
    x, y = images(40), images(30, 1) + 0.2
    whole = distances(x, y, "fid", "kid")
    assert distances(x, y, "fid", "kid", size=size) == pytest.approx(whole, rel=1e-5)


def test_only_what_is_asked_for_is_measured(distances: Distances) -> None:
    x, y = images(10), images(12, 1)
    assert set(distances(x, y, "fid", "energy")) == {"fid"}
    assert set(distances(x, y, "kid")) == {"kid", "kid_sd"}


def test_every_image_is_reported(distances: Distances) -> None:
    done: list[int] = []
    distances(images(20), images(10, 1), "kid", advance=done.append)
    assert done == [16, 4, 10]


@pytest.mark.parametrize(("n", "m", "warned"), [(6, 50, True), (50, 6, True), (7, 7, False)])
def test_too_few_for_a_covariance_are_warned_of(
    n: int, m: int, warned: bool, distances: Distances, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "arcsm_cli"):
        distances(images(n), images(m, 1), "fid")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned


def test_kid_warns_of_nothing(distances: Distances, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "arcsm_cli"):
        distances(images(4), images(4, 1), "kid")
    assert not caplog.records


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.fixture(scope="module")
def features(inception_file: Path) -> InceptionFeatures:
    return InceptionFeatures(str(inception_file))


@pytest.fixture
def pictures() -> Tensor:
    """Three colour images of 8 bits, as data sets give them."""
    pixels = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return pixels.float() / 255


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_features_are_those_of_the_network_of_torchmetrics(
    inception_state: dict[str, Tensor],
    pictures: Tensor,
    tmp_path: Path,
    features: InceptionFeatures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchmetrics.image.fid import NoTrainInceptionV3

    published = tmp_path / "weights.pth"
    torch.save(inception_state, published)
    theirs = NoTrainInceptionV3("theirs", ["2048"], str(published))
    pixels = pictures.mul(255).round().byte()
    assert torch.equal(features(pictures), theirs(pixels))
    assert features(pictures).std() > 1e-3  # weights that say nothing would agree as well
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    monkeypatch.setattr(feature_weights, "SHA256", digest)
    assert torch.equal(InceptionFeatures(str(published))(pictures), theirs(pixels))


@pytest.mark.slow
def test_grey_is_the_colour_with_equal_channels(
    features: InceptionFeatures, pictures: Tensor
) -> None:
    grey = pictures[:1, :1]
    assert torch.equal(features(grey), features(grey.repeat(1, 3, 1, 1)))


@pytest.mark.slow
def test_values_beyond_the_range_are_clipped(features: InceptionFeatures, pictures: Tensor) -> None:
    wide = 3 * pictures[:1] - 1
    assert torch.equal(features(wide), features(wide.clamp(0, 1)))


@pytest.mark.slow
def test_features_of_parts_are_those_of_the_whole(
    features: InceptionFeatures, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = features(pictures)
    monkeypatch.setattr(image_features, "_MOST", 2)
    torch.testing.assert_close(features(pictures), whole, rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(torch.nn.Linear(2, 2).state_dict(), other)
    with pytest.raises(DamagedInputError, match=r"other\.safetensors: does not hold Inception v3"):
        InceptionFeatures(str(other))


@pytest.mark.slow
def test_weights_that_overflow_are_refused_when_features_are_wanted(
    inception_state: dict[str, Tensor], pictures: Tensor, tmp_path: Path
) -> None:
    huge = {name: tensor.clone() for name, tensor in inception_state.items()}
    huge["Conv2d_1a_3x3.conv.weight"].fill_(3e38)
    save_file(huge, tmp_path / "huge.safetensors")
    with pytest.raises(DamagedInputError, match=r"huge\.safetensors: the features are not numbers"):
        InceptionFeatures(str(tmp_path / "huge.safetensors"))(pictures[:1])
