"""``arcsm sample``: what is drawn depends on the model, the seed and the sample's number alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.files import read

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Draw = Callable[..., NDArray[np.float32]]


@pytest.fixture
def draw(call: Call, tmp_path: Path) -> Draw:
    """Draws samples and returns them, (N, ...)."""

    def draw(*arguments: object, **options: Any) -> NDArray[np.float32]:
        done = call("sample", *arguments, "--force", "-o", "drawn.h5", **options)
        assert (done.code, done.out, done.err) == (0, b"", "")
        return read(tmp_path / "drawn.h5")

    return draw


def test_samples_of_one_seed_differ(draw: Draw, digits_model: Path) -> None:
    assert len(np.unique(draw(digits_model, "-n", 20), axis=0)) == 20


def test_more_samples_begin_with_the_same_ones(draw: Draw, digits_model: Path) -> None:
    few, many = (draw(digits_model, "-n", count) for count in (3, 6))
    np.testing.assert_allclose(many[:3], few, atol=1e-5)


def test_a_shard_may_be_empty(draw: Draw, vector_model: Path) -> None:
    assert draw(vector_model, "-n", 2, "--shard", "0/4").shape == (0, 2)


@pytest.mark.slow
def test_images_are_clipped_unless_told_otherwise(draw: Draw, digits_model: Path) -> None:
    free = draw(digits_model, "-n", 5, "--no-clip")
    assert free.min() < 0
    np.testing.assert_array_equal(draw(digits_model, "-n", 5), free.clip(0, 1))


def test_denoising_changes_what_is_given(draw: Draw, vector_model: Path) -> None:
    noisy, clean = (draw(vector_model, "-n", 5, *flag) for flag in ([], ["--denoise"]))
    assert (noisy != clean).any(axis=1).all()
    assert np.abs(noisy - clean).max() < 1  # a noise level of 0.05 away, about


def test_a_png_shows_the_samples(draw: Draw, digits_model: Path, tmp_path: Path) -> None:
    draw(digits_model, "-n", 3, "--png", "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_json_gives_the_figures_and_nothing_else(call: Call, vector_model: Path) -> None:
    done = call("sample", vector_model, "-n", 3, "-o", "s.h5", "--json")
    assert done.json == {"metrics": {"samples": 3}}
    assert done.err == ""


def test_an_existing_output_is_refused_unless_forced(
    call: Call, vector_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.h5").write_text("mine")
    done = call("sample", vector_model, "-n", 2, "-o", "s.h5")
    assert (done.code, done.err.count("\n"), "s.h5" in done.err) == (73, 1, True)
    assert (tmp_path / "s.h5").read_text() == "mine"
    assert call("sample", vector_model, "-n", 2, "-o", "s.h5", "--force").code == 0
    assert len(read(tmp_path / "s.h5")) == 2


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--sampler nuts", 2),
        ("--sampler ode --step-size 1", 2),
        ("--sampler ode --points 64", 2),
        ("--sampler langevin --step-size nan", 2),
        ("--sampler langevin --step-size -1", 2),
        ("--sampler langevin --step-size 1e30", 2),
        ("--sampler grid --points 7", 2),
        ("--count 0", 2),
        ("--batch-size 0", 2),
        ("--steps 0", 2),
        ("--seed -1", 2),
        ("--shard 2/2", 2),
        ("--shard 1", 2),
        ("--shard -1/2", 2),
        ("--png s.h5", 73),
        ("--png ./s.h5", 73),
        ("--png nowhere/s.png", 73),
        ("--shard 0/100 --png grid.png", 2),
        ("--device tpu", 2),
        ("--device mps", 69),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_that_names_the_option(
    options: str, code: int, call: Call, digits_model: Path, tmp_path: Path
) -> None:
    done = call("sample", digits_model, "-n", 4, "-o", "s.h5", *options.split())
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    value = options.split()[-1]
    assert options.split()[-2] in done.err or value in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"), [("--sampler ode", "ode"), ("--png grid.png", "--png")]
)
def test_what_does_not_fit_the_model_is_refused(
    options: str, named: str, call: Call, staged_model: Path, tmp_path: Path
) -> None:
    done = call("sample", staged_model, "-o", "s.h5", *options.split())
    assert (done.code, done.err.count("\n"), named in done.err) == (2, 1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_code_69(call: Call, vector_model: Path) -> None:
    by_option = call("sample", vector_model, "-o", "s.h5", "--device", "cuda:4095")
    by_environment = call("sample", vector_model, "-o", "s.h5", env={"ARCSM_DEVICE": "cuda:4095"})
    assert (by_option.code, by_environment.code) == (69, 69)
    assert by_option.err.count("\n") == by_environment.err.count("\n") == 1


def test_a_model_is_known_by_its_content_not_its_name(
    draw: Draw, vector_model: Path, tmp_path: Path
) -> None:
    shutil.copy(vector_model, tmp_path / "model.h5")
    assert draw("model.h5", "-n", 2).shape == (2, 2)
