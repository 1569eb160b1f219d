"""From words to corruptions and methods, and what does not go together."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcsm_cli.denoising.corruption import Corruption, Gaussian, Mask, SaltPepper
from arcsm_cli.denoising.methods import (
    Settings,
    choose_denoiser,
    estimate_sigma,
    parse_corruption,
    read_mask,
)
from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError

Make = Callable[..., Any]
LEVELS = (3.0, 0.5, 0.05)
HIDDEN = Mask(torch.eye(8, dtype=torch.bool).expand(1, 8, 8))


@pytest.fixture
def images(random_model: Make) -> Make:
    """Makes models of small grey images."""

    def make(**config: Any) -> Any:
        scale = {"data_shift": (0.5,), "data_scale": (0.5,)}
        return random_model(**{"shape": (1, 8, 8), "levels": LEVELS} | scale | config)

    return make


# corruptions


def test_noise_of_images_is_in_the_scale_of_the_model(images: Make) -> None:
    corruption = parse_corruption("gaussian:0.6", images())
    assert isinstance(corruption, Gaussian)
    assert (corruption.sigma, float(corruption.scale)) == (0.6, 0.5)


def test_noise_of_standardised_vectors_is_in_the_scale_of_the_model(random_model: Make) -> None:
    model = random_model(data_shift=(0.0,) * 3, data_scale=(1.0, 5.0, 0.1), order="reversed")
    corruption = parse_corruption("gaussian:0.5", model)
    assert isinstance(corruption, Gaussian)
    assert torch.equal(torch.as_tensor(corruption.scale), torch.tensor([1.0, 5.0, 0.1]))


@pytest.mark.parametrize(
    "text",
    [
        *("", "gaussian", "gaussian:", "gaussian:0", "gaussian:-1", "gaussian:nan", "gaussian:inf"),
        *("gaussian:x", "salt-pepper:0", "salt-pepper:1", "salt-pepper:nan", "mask", "mask:"),
        *("blur:1", "GAUSSIAN:1", ":"),
    ],
)
def test_other_words_are_a_usage_error(text: str, images: Make) -> None:
    with pytest.raises(UsageError, match="--corrupt"):
        parse_corruption(text, images())


def test_salt_and_pepper_are_of_images(random_model: Make) -> None:
    with pytest.raises(UsageError, match="images"):
        parse_corruption("salt-pepper:0.3", random_model())


# masks


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 6)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_an_array_hides_where_it_is_not_zero(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any
) -> None:
    array = np.zeros(shape, dtype)
    array[..., 1, 2] = 1
    np.save(tmp_path / "m.npy", array)
    hidden = read_mask(str(tmp_path / "m.npy"), (3, 4, 6))
    assert (hidden.shape, int(hidden.sum())) == ((3, 4, 6), 3)
    assert hidden[:, 1, 2].all()


def test_an_image_hides_where_it_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6), np.uint8)
    pixels[1, 2], pixels[2, 3] = 255, 127
    Image.fromarray(pixels).save(tmp_path / "m.png")
    hidden = read_mask(str(tmp_path / "m.png"), (1, 4, 6))
    assert hidden.nonzero().tolist() == [[0, 1, 2]]


def test_a_mask_of_vectors_has_a_value_for_each_variable(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", [0, 1, 0])
    assert read_mask(str(tmp_path / "m.npy"), (3,)).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(), (4,), (6, 4), (2, 4, 6), (1, 3, 4, 6)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "m.npy", np.ones(shape))
    with pytest.raises(DamagedInputError, match=r"m\.npy"):
        read_mask(str(tmp_path / "m.npy"), (3, 4, 6))


@pytest.mark.parametrize("name", ["m.npy", "m.png"])
def test_a_damaged_mask_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DamagedInputError, match=name):
        read_mask(str(tmp_path / name), (1, 4, 6))


def test_a_mask_that_is_not_there_is_missing_and_a_folder_is_none(tmp_path: Path) -> None:
    for source, error in (
        (tmp_path / "none.npy", MissingInputError),
        (tmp_path, DamagedInputError),
    ):
        with pytest.raises(error):
            read_mask(str(source), (1, 4, 6))


# the noise level


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.5])
def test_the_noise_of_smooth_images_is_estimated_within_a_tenth(sigma: float) -> None:
    u = torch.linspace(0, 3, 24)
    smooth = 0.5 + 0.4 * torch.sin(u[:, None] + 2 * u).expand(20, 1, 24, 24)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    assert estimate_sigma(smooth + sigma * noise) == pytest.approx(sigma, rel=0.1)


def test_strong_noise_of_digits_is_estimated_within_a_tenth() -> None:
    from arcsm_cli.data.options import DataOptions
    from arcsm_cli.data.spec import load_data

    x = next(iter(load_data("digits", DataOptions(), default_split="test").batches(256))).x
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert estimate_sigma(x + 0.5 * noise) == pytest.approx(0.5, rel=0.1)
    # Digits are mostly edges: of less noise there seems to be more.
    assert 0.2 < estimate_sigma(x + 0.2 * noise) < 0.3


def test_images_one_pixel_wide_have_no_estimate(images: Make) -> None:
    estimate = estimate_sigma(torch.rand(4, 1, 8, 1))
    assert math.isnan(estimate)
    with pytest.raises(UsageError, match="--sigma"):
        choose_denoiser(images(), None, Settings(), estimate)


@pytest.mark.parametrize("annealing", ["joint", "staged"])
def test_images_without_noise_are_of_the_last_level(images: Make, annealing: str) -> None:
    assert choose_denoiser(images(annealing=annealing), None, Settings(), 0.0).sigma == LEVELS[-1]


@pytest.mark.parametrize(
    ("corruption", "given", "estimated", "sigma"),
    [
        (Gaussian(0.6), None, None, 0.6),
        (Gaussian(0.6), 0.3, None, 0.3),
        (None, None, 0.7, 0.7),
        (None, None, 40.0, 3.0),
        (None, 0.2, 0.7, 0.2),
    ],
)
def test_the_level_is_the_given_the_known_or_the_estimated_one(
    images: Make,
    corruption: Corruption | None,
    given: float | None,
    estimated: float | None,
    sigma: float,
) -> None:
    found = choose_denoiser(images(), corruption, Settings("ode", given), estimated)
    assert found.sigma == sigma


def test_salt_and_pepper_count_by_their_mean_square(images: Make) -> None:
    model = images(mean=(-0.4,), sd=(0.6,))
    found = choose_denoiser(model, SaltPepper(0.3), Settings("ode"))
    assert found.sigma == pytest.approx(math.sqrt(0.3 * (1 + 0.4**2 + 0.6**2)), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 3.1])
def test_joint_models_restore_within_their_levels(images: Make, sigma: float) -> None:
    with pytest.raises(UsageError, match="--sigma"):
        choose_denoiser(images(), None, Settings(sigma=sigma))
    with pytest.raises(UsageError, match="--corrupt"):
        choose_denoiser(images(), Gaussian(sigma), Settings())


def test_other_models_take_their_nearest_level_and_say_so(
    images: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = images(annealing="staged")
    found = choose_denoiser(model, Gaussian(0.55), Settings())
    assert (found.sigma, found.level, caplog.text) == (0.5, 1, "")
    assert choose_denoiser(model, Gaussian(0.2), Settings()).sigma in (0.5, 0.05)
    assert "0.2" in caplog.text


# the method


@pytest.mark.parametrize(
    ("annealing", "corruption", "method"),
    [
        ("joint", Gaussian(0.6), "ode"),
        ("joint", SaltPepper(0.3), "particles"),
        ("joint", HIDDEN, "particles"),
        ("staged", Gaussian(0.6), "sequential"),
        ("staged", SaltPepper(0.3), "sequential"),
        ("staged", HIDDEN, "particles"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_the_method_fits_the_model_and_the_corruption(
    images: Make, annealing: str, corruption: Corruption, method: str
) -> None:
    assert choose_denoiser(images(annealing=annealing), corruption, Settings()).method == method


@pytest.mark.parametrize(
    ("annealing", "corruption", "settings", "named"),
    [
        ("staged", Gaussian(0.6), Settings("ode"), "--method ode"),
        ("none", Gaussian(0.6), Settings("particles"), "--method particles"),
        ("joint", HIDDEN, Settings("single-step"), "--method single-step"),
        ("joint", HIDDEN, Settings("sequential"), "--method sequential"),
        ("joint", HIDDEN, Settings("ode"), "--method ode"),
        ("staged", HIDDEN, Settings("langevin"), "--method langevin"),
        ("joint", HIDDEN, Settings(lag=3), "--lag"),
        ("joint", Gaussian(0.6), Settings("particles", lag=3, draw=True), "--lag"),
        ("joint", Gaussian(0.6), Settings(draw=True), "--draw"),
        ("joint", HIDDEN, Settings(sigma=0.3), "--sigma"),
        ("joint", SaltPepper(0.3), Settings("particles", 0.3), "--sigma"),
        ("joint", Gaussian(0.6), Settings("particles", steps=3), "--steps"),
        ("joint", Gaussian(0.6), Settings("sequential", steps=3), "--steps"),
        ("joint", Gaussian(0.6), Settings("ode", particles=3), "--particles"),
        ("joint", Gaussian(0.6), Settings(lag=3), "--lag"),
        ("joint", None, Settings(), "--sigma"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_does_not_go_together_is_a_usage_error(
    images: Make, annealing: str, corruption: Corruption | None, settings: Settings, named: str
) -> None:
    levels = LEVELS if annealing != "none" else (0.05,)
    with pytest.raises(UsageError, match=named):
        choose_denoiser(images(annealing=annealing, levels=levels), corruption, settings)


def test_a_model_without_noise_takes_none_off(images: Make) -> None:
    with pytest.raises(UsageError, match="without noise"):
        choose_denoiser(images(annealing="none", levels=(0.0,)), Gaussian(0.6), Settings())


def test_langevin_begins_at_the_first_level_within_the_noise(images: Make) -> None:
    rule = choose_denoiser(images(), Gaussian(0.6), Settings("langevin")).rule
    assert rule is not None
    assert rule.draws == 2 * 20


@pytest.mark.parametrize("order", ["raster", "reversed", "random"])
def test_a_mask_follows_the_models_order(images: Make, order: str) -> None:
    model = images(order=order)
    hidden = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    rule: Any = choose_denoiser(model, Mask(hidden), Settings()).rule
    assert torch.equal(rule.hidden, model.sort(hidden[None].double())[0] > 0)


@pytest.mark.parametrize(("shape", "lag"), [((1, 8, 8), 24), ((3, 4, 4), 36), ((5,), 5)])
def test_particles_look_three_rows_ahead(
    random_model: Make, shape: tuple[int, ...], lag: int
) -> None:
    model = random_model(shape=shape, levels=LEVELS)
    found = choose_denoiser(model, Gaussian(0.6), Settings("particles"))
    assert (found.particles, found.lag) == (16 if len(shape) == 3 else 64, lag)
