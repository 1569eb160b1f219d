"""Codes over the prior, and reconstructions, of VAEs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.patches import Circle

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.models.vae import VAE
from arcsm_cli.plotting.by_kind import figure_of_vae
from arcsm_cli.plotting.figure import new_figure
from arcsm_cli.plotting.latent import codes_of, draw_codes, versions

Make = Callable[..., Any]


def normal(count: int, size: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, size))


def drawn(codes: Any, labels: Any = None) -> tuple[list[Any], str, list[str]]:
    """The axes that are seen, all text of the figure, and the legend's; drawn to the last pixel."""
    with new_figure(6, 5, layout="constrained") as figure:
        draw_codes(figure, codes, labels)
        figure.canvas.draw()
        axes = [a for a in figure.axes if a.get_visible()]
        legends = [a.get_legend() for a in axes if a.get_legend()] + figure.legends
        named = [text.get_text() for legend in legends for text in legend.get_texts()]
        words = [text.get_text() for text in figure.texts]
        words += [a.get_title(loc="left") for a in axes] + [figure.get_suptitle()]
        return axes, " ".join(" ".join(words).split()), named


# Codes


@pytest.mark.parametrize(("size", "panels"), [(1, 1), (2, 1), (3, 3), (5, 10), (9, 10)])
def test_every_pair_of_variables_has_a_panel(size: int, panels: int) -> None:
    axes, _, _ = drawn(normal(50, size))
    assert len(axes) == panels


def test_the_first_of_many_variables_are_drawn_and_the_figure_says_so() -> None:
    _, text, _ = drawn(normal(1234, 9))
    assert "1,234" in text
    assert "the first 5 of 9 variables" in text


def test_panels_name_their_variables() -> None:
    axes, _, _ = drawn(normal(50, 3))
    named = {(a.get_xlabel(), a.get_ylabel()) for a in axes}
    assert named == {("", "$z_{2}$"), ("$z_{1}$", "$z_{3}$"), ("$z_{2}$", "")}


def test_a_panel_shows_its_two_variables() -> None:
    codes = normal(50, 3)
    axes = drawn(codes)[0]
    pairs = [a.collections[0].get_offsets() for a in axes]
    for points, (across, up) in zip(pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        assert np.allclose(points, codes[:, [across, up]])


@pytest.mark.parametrize("size", [2, 4])
def test_circles_hold_half_and_19_of_20_draws_of_the_prior(size: int) -> None:
    z = np.random.default_rng(1).normal(size=(100_000, 2))
    for axes in drawn(normal(50, size))[0]:
        circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
        assert all(tuple(circle.center) == (0, 0) for circle in circles)
        shares = [float((np.hypot(*z.T) < circle.radius).mean()) for circle in circles]
        assert shares == pytest.approx([0.5, 0.95], abs=0.005)


def test_one_variable_has_a_histogram_and_no_circles() -> None:
    codes = normal(500, 1)
    (axes,), text, _ = drawn(codes)
    assert sum(patch.get_height() for patch in axes.patches) == pytest.approx(500, abs=2)
    assert not any(isinstance(patch, Circle) for patch in axes.patches)
    assert "95" not in text


@pytest.mark.parametrize("size", [2, 4])
def test_classes_have_colours_and_names(size: int) -> None:
    codes, labels = normal(60, size), np.arange(60) % 3
    axes, _, named = drawn(codes, labels)
    assert named == ["0", "1", "2"]
    for panel in axes:
        assert len({tuple(c.get_facecolor()[0]) for c in panel.collections}) == 3
        assert sum(len(c.get_offsets()) for c in panel.collections) == 60


@pytest.mark.parametrize("labels", [None, np.zeros(60, int), np.arange(60) % 11])
def test_without_a_few_classes_all_codes_have_one_colour(labels: Any) -> None:
    (axes,), _, named = drawn(normal(60, 2), labels)
    assert named == []
    assert [len(c.get_offsets()) for c in axes.collections] == [60]


@pytest.mark.slow
@settings(max_examples=12)
@given(
    arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, max_side=3),
        elements=st.floats(-1e30, 1e30),
    )
)
def test_any_codes_are_drawn(codes: Any) -> None:
    drawn(codes)


def test_codes_that_coincide_are_drawn() -> None:
    drawn(np.zeros((5, 2)), np.arange(5) % 2)


# What is drawn


@pytest.fixture
def vae(random_vae: Make) -> VAE:
    made: VAE = random_vae(shape=(1, 2, 3)).float()
    return made


def pictures(count: int) -> Dataset:
    values = torch.rand(count, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    return Dataset("x", values, labels=torch.arange(count) % 2)


def test_an_examples_code_depends_on_its_number_alone(vae: VAE) -> None:
    data = pictures(300)  # more than are encoded at a time
    codes = codes_of(vae, data)
    assert codes.shape == (300, 3)
    assert np.allclose(codes[:5], codes_of(vae, data.limit(5)), atol=1e-5)


def test_codes_are_of_the_grey_images_themselves(vae: VAE) -> None:
    data = pictures(4)
    assert np.array_equal(codes_of(vae, data), codes_of(vae, data))
    darker = Dataset("x", data.values / 2)
    assert not np.allclose(codes_of(vae, data), codes_of(vae, darker))


def test_images_are_shown_with_what_is_decoded_from_their_codes_and_samples(vae: VAE) -> None:
    data = pictures(4)
    found = versions(vae, data)
    assert list(found) == ["data", "decoded", "samples"]
    assert np.array_equal(found["data"], data.values.numpy())
    with torch.no_grad():
        mean = vae.unflatten(vae.mean(torch.from_numpy(codes_of(vae, data)).float()))
    assert np.allclose(found["decoded"], mean.numpy(), atol=1e-6)
    assert found["samples"].shape == (4, 1, 2, 3)
    assert all(0 <= images.min() <= images.max() <= 1 for images in found.values())


# Files


@pytest.fixture
def files(random_vae: Make, tmp_path: Path) -> Callable[..., Path]:
    """Writes a VAE's checkpoint, and data of its shape to ``data.npz``."""

    def write(shape: tuple[int, ...] = (1, 4, 4), scale: float = 1.0, **options: Any) -> Path:
        vae = random_vae(shape=shape, **options).float()
        tensors = {k: v.detach() * scale for k, v in vae.named_parameters()}
        path = tmp_path / "vae.safetensors"
        save_checkpoint(path, Checkpoint("vae", vae.config.to_dict(), {}, [], tensors))
        values = np.random.default_rng(0).random((12, *shape), dtype=np.float32)
        np.save(tmp_path / "data.npy", values)
        return path

    return write


def figure(path: Path, data: Path | None = None, **options: Any) -> Any:
    given: dict[str, Any] = {"latent": False, "count": None, "columns": None, "device": "cpu"}
    source = str(data or path.with_name("data.npy"))
    return figure_of_vae(path, source, DataOptions(), **given | options)


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 7])
def test_codes_are_written_as_a_figure(files: Make, tmp_path: Path, latent_dim: int) -> None:
    from PIL import Image

    path = files((5,), latent_dim=latent_dim, decoder="gaussian")
    figure(path, latent=True)(tmp_path / "codes.png", "png")
    with Image.open(tmp_path / "codes.png") as image:
        assert image.width == 900


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_reconstructions_are_written_as_a_figure(files: Make, tmp_path: Path, kind: str) -> None:
    figure(files(), count=6, columns=3)(tmp_path / f"figure.{kind}", kind)
    assert (tmp_path / f"figure.{kind}").stat().st_size > 1000


@pytest.mark.slow
def test_equal_files_give_equal_figures(files: Make, tmp_path: Path) -> None:
    path = files()
    for name in ("a", "b"):
        figure(path, latent=True)(tmp_path / f"{name}.png", "png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_vectors_have_no_reconstructions(files: Make) -> None:
    with pytest.raises(UsageError, match="--latent"):
        figure(files((5,)))


def test_codes_have_no_columns(files: Make) -> None:
    with pytest.raises(UsageError, match="--columns"):
        figure(files(), latent=True, columns=3)


def test_data_of_another_shape_are_refused(files: Make, tmp_path: Path) -> None:
    path = files()
    np.save(tmp_path / "other.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(DamagedInputError, match=r"other\.npy"):
        figure(path, tmp_path / "other.npy", latent=True)


@pytest.mark.parametrize("latent", [True, False])
def test_weights_that_overflow_are_refused(files: Make, tmp_path: Path, latent: bool) -> None:
    path = files(scale=1e37, method="ssm")
    with pytest.raises(DamagedInputError, match=r"vae\.safetensors"):
        figure(path, latent=latent)(tmp_path / "figure.png", "png")
