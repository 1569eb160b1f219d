"""Figures of restored examples, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli import registry
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.restoration import restoration_figures
from arcsm_cli.io.samples import SampleFile, SampleWriter

Figures = Callable[..., dict[str, float]]

METRICS = registry.METRICS.tagged("restored")


@pytest.fixture
def figures(tmp_path: Path) -> Figures:
    """The figures of restored examples beside clean and corrupted ones."""

    def figures(
        restored: Tensor,
        clean: Tensor | None,
        corrupted: Tensor | None = None,
        *,
        metrics: tuple[str, ...] = METRICS,
        **options: Any,
    ) -> dict[str, float]:
        path = tmp_path / "restored.h5"
        with SampleWriter(path, tuple(restored.shape[1:]), []) as writer:
            writer.append(restored, clean=clean, corrupted=corrupted)
        with SampleFile(path) as file:
            return restoration_figures(file, "restored.h5", metrics=list(metrics), **options)

    return figures


def images(n: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 16, 16, generator=generator) * 0.5 + 0.25


@pytest.mark.parametrize("offset", [0.1, -0.02])
def test_a_constant_offset_has_its_psnr_and_mse(figures: Figures, offset: float) -> None:
    found = figures(images() + offset, images(), metrics=("psnr", "mse"))
    assert found["psnr"] == pytest.approx(-20 * math.log10(abs(offset)), abs=1e-3)
    assert found["mse"] == pytest.approx(offset**2, rel=1e-3)
    assert found["psnr_se"] == pytest.approx(0, abs=1e-3)


def test_psnr_is_a_mean_over_images_and_not_of_their_mean_error(figures: Figures) -> None:
    clean = images(2)
    restored = clean + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    found = figures(restored, clean, metrics=("psnr",))
    assert found["psnr"] == pytest.approx((20 + 40) / 2, abs=1e-2)
    assert found["psnr_se"] == pytest.approx(10, abs=1e-2)


def test_perfect_images_have_ssim_1_and_the_psnr_of_rounding(figures: Figures) -> None:
    found = figures(images(), images())
    assert found["ssim"] == pytest.approx(1)
    assert found["mse"] == 0
    assert found["psnr"] == pytest.approx(20 * math.log10(510))


def test_ssim_of_flat_images_is_its_formula(figures: Figures) -> None:
    a, b, c = 0.3, 0.6, 0.01**2
    flat = torch.ones(3, 1, 16, 16)
    found = figures(a * flat, b * flat, metrics=("ssim",))
    assert found["ssim"] == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-3)


def test_ssim_averages_the_windows_that_lie_inside_the_image(figures: Figures) -> None:
    x, y = (images(1, seed)[:, :, :, :12] for seed in (1, 2))
    x, y = x[:, :, :11], y[:, :, :11]  # 11 x 12 pixels: two places for the window
    offsets = torch.arange(11.0) - 5
    line = (-offsets.square() / (2 * 1.5**2)).exp()
    window = torch.outer(line, line) / line.sum().square()

    def of_place(a: Tensor, b: Tensor) -> float:
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        covariance = (window * (a - mean_a) * (b - mean_b)).sum()
        c, d = 0.01**2, 0.03**2
        means = (2 * mean_a * mean_b + c) / (mean_a**2 + mean_b**2 + c)
        return float(means * (2 * covariance + d) / (var_a + var_b + d))

    expected = [of_place(x[0, 0, :, i : i + 11], y[0, 0, :, i : i + 11]) for i in (0, 1)]
    assert figures(x, y, metrics=("ssim",))["ssim"] == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_noise_lowers_ssim(figures: Figures) -> None:
    noise = 0.1 * torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found = figures(images() + noise, images(), images() + 3 * noise)
    assert found["corrupted_ssim"] < found["ssim"] < 0.99


def test_corrupted_examples_have_the_same_figures(figures: Figures) -> None:
    found = figures(images(), images(), images() + 0.1)
    assert found["corrupted_mse"] == pytest.approx(0.01, rel=1e-4)
    assert set(found) == {
        f"{prefix}{m}{end}" for prefix in ("", "corrupted_") for m in METRICS for end in ("", "_se")
    }


def test_values_beyond_the_range_are_clipped_first(figures: Figures) -> None:
    ones = torch.ones(2, 1, 16, 16)
    assert figures(3 * ones, ones, metrics=("mse",))["mse"] == 0


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batches_do_not_matter(figures: Figures, size: int) -> None:
    restored, counted = images(7, seed=1), []
    found = figures(restored, images(7), batch_size=size, advance=counted.append)
    whole = figures(restored, images(7))
    assert found == pytest.approx(whole, rel=1e-6)
    assert sum(counted) == 7


def test_one_image_has_no_standard_error(figures: Figures) -> None:
    assert math.isnan(figures(images(1) + 0.1, images(1), metrics=("mse",))["mse_se"])


def test_vectors_have_their_squared_error_unclipped(figures: Figures) -> None:
    found = figures(torch.full((4, 3), 7.0), torch.full((4, 3), 5.0), metrics=("mse",))
    assert found["mse"] == pytest.approx(4)


def test_vectors_have_nothing_else(figures: Figures) -> None:
    with pytest.raises(UsageError, match="mse"):
        figures(torch.zeros(4, 3), torch.zeros(4, 3))


def test_ssim_needs_room_for_its_window(figures: Figures) -> None:
    small = torch.zeros(2, 1, 10, 16)
    with pytest.raises(UsageError, match="11"):
        figures(small, small, metrics=("ssim",))
    assert figures(small, small, metrics=("psnr",))


def test_without_clean_examples_there_is_nothing_to_compare_with(figures: Figures) -> None:
    with pytest.raises(DamagedInputError, match=r"restored\.h5"):
        figures(images(), None)
