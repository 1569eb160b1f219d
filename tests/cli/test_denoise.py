"""``arcsm denoise`` as a real program, its pipes and its files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arcsm_cli.io.samples import SampleWriter
from tests.cli.files import datasets
from tests.cli.preloaded import VECTORS

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Denoise = Callable[..., dict[str, NDArray[np.float32]]]
NOISE = ("--corrupt", "gaussian:0.6")


@pytest.fixture
def denoise(call: Call, tmp_path: Path) -> Denoise:
    """Restores and returns the datasets of the output."""

    def denoise(*arguments: object, **options: Any) -> dict[str, NDArray[np.float32]]:
        done = call("denoise", *arguments, "--force", "-o", "out.h5", **options)
        assert (done.code, done.out, done.err) == (0, b"", "")
        return datasets(tmp_path / "out.h5")

    return denoise


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A mask that hides the lower half of digits."""
    mask = np.zeros((8, 8))
    mask[4:] = 1
    np.save(tmp_path / "half.npy", mask)
    return tmp_path / "half.npy"


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """Noisy grey pictures of the size of digits, in a sample file without clean ones."""
    path = tmp_path / "noisy.h5"
    values = 0.5 + 0.2 * np.random.default_rng(0).normal(size=(30, 1, 8, 8))
    with SampleWriter(path, (1, 8, 8), []) as writer:
        writer.append(values)
    return path


@pytest.fixture(scope="session")
def likelihood_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained by maximum likelihood, hardly."""
    folder = tmp_path_factory.mktemp("likelihood")
    options = ("--objective", "mle", "--steps", 5, "--hidden", "16,16")
    assert call_in(folder, "train", *VECTORS, *options, "-o", "m.safetensors").code == 0
    return folder / "m.safetensors"


@pytest.fixture(scope="session")
def small_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits of 4 x 4 pixels, hardly trained."""
    folder = tmp_path_factory.mktemp("small")
    options = ("--resize", 4, "--steps", 5, "--hidden", "16,16")
    assert call_in(folder, "train", "digits", *options, "-o", "m.safetensors").code == 0
    return folder / "m.safetensors"


@pytest.fixture(scope="session")
def standardised_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three columns of unlike scales, hardly trained."""
    folder = tmp_path_factory.mktemp("standardised")
    x = np.random.default_rng(0).normal(size=(300, 3)) * [1, 100, 0.01]
    np.save(folder / "x.npy", x)
    options = ("--standardize", "--steps", 5, "--hidden", "16,16")
    assert call_in(folder, "train", "x.npy", *options, "-o", "m.safetensors").code == 0
    return folder / "m.safetensors"


# pipes and files


def test_data_are_corrupted_restored_and_measured_in_one_pipe(
    pipeline: Callable[..., list["Done"]], digits_model: Path
) -> None:
    dones = pipeline(
        ("data", "digits", "--limit", 20, "-o", "-"),
        ("denoise", digits_model, "-", *NOISE, "-o", "-"),
        ("eval", "-", "--metric", "psnr,mse", "--json"),
    )
    assert [(done.code, done.err) for done in dones] == [(0, "")] * 3
    result = dones[-1].json
    assert result["samples"] == 20
    assert {"psnr", "psnr_se", "mse", "corrupted_psnr", "corrupted_mse"} <= set(result["metrics"])
    assert result["metrics"]["psnr"] > result["metrics"]["corrupted_psnr"]


def test_the_output_holds_all_three_versions(denoise: Denoise, call: Call, digits_model: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    found = denoise(digits_model, "digits", *NOISE, "--limit", 9)
    assert list(found) == ["samples", "clean", "corrupted"]
    call("data", "digits", "--limit", 9, "-o", "digits.h5")
    np.testing.assert_array_equal(found["clean"], datasets(tmp_path / "digits.h5")["samples"])
    noise = 2 * (found["corrupted"] - found["clean"])
    assert noise.std() == pytest.approx(0.6, rel=0.1)
    assert found["samples"].min() >= 0
    assert found["samples"].max() <= 1


def test_what_was_corrupted_already_has_no_clean_version(
    denoise: Denoise, digits_model: Path, noisy: Path
) -> None:
    found = denoise(digits_model, noisy, "--limit", 9, "--sigma", 0.4)
    assert list(found) == ["samples", "corrupted"]
    np.testing.assert_array_equal(found["corrupted"], datasets(noisy)["samples"][:9])


def test_json_gives_the_method_and_the_noise(call: Call, digits_model: Path) -> None:
    done = call("denoise", digits_model, "digits", *NOISE, "--limit", 3, "-o", "o.h5", "--json")
    assert done.json == {"method": "ode", "metrics": {"samples": 3, "sigma": 0.6}}


def test_the_noise_of_images_is_estimated(call: Call, digits_model: Path, noisy: Path) -> None:
    done = call("denoise", digits_model, noisy, "-o", "o.h5", "--json")
    assert done.json["metrics"]["sigma"] == pytest.approx(0.4, rel=0.1)


def test_standard_input_is_read_once(call: Call) -> None:
    done = call("denoise", "-", "-", "-o", "o.h5")
    assert (done.code, done.err.count("\n")) == (2, 1)


# methods


@pytest.mark.parametrize("method", ["single-step", "sequential", "langevin", "ode", "particles"])
@pytest.mark.parametrize("corruption", ["gaussian:0.6", "salt-pepper:0.3"])
def test_every_method_restores_independently_of_batches(
    method: str, corruption: str, denoise: Denoise, small_model: Path
) -> None:
    data = ("digits", "--resize", 4, "--corrupt", corruption)
    options = (small_model, *data, "--method", method)
    few = ("--particles", 3) if method == "particles" else ()
    whole = denoise(*options, *few, "--limit", 5)
    pieces = denoise(*options, *few, "--limit", 7, "--batch-size", 2)
    for name in ("samples", "clean", "corrupted"):
        np.testing.assert_allclose(pieces[name][:5], whole[name], atol=1e-4)
    assert np.abs(whole["samples"] - whole["corrupted"]).max() > 0.01


@pytest.mark.parametrize("how", ["--draw", "--average"])
def test_masks_are_filled_and_the_rest_is_kept_exactly(
    how: str, denoise: Denoise, digits_model: Path, half: Path
) -> None:
    options = ("--corrupt", f"mask:{half}", "--limit", 4, "--particles", 3, how)
    found = denoise(digits_model, "digits", *options)
    np.testing.assert_array_equal(found["samples"][:, :, :4], found["clean"][:, :, :4])
    assert (found["corrupted"][:, :, 4:] == 0).all()
    assert (found["samples"][:, :, 4:] != 0).any()


def test_grey_pixels_survive_salt_and_pepper(denoise: Denoise, digits_model: Path) -> None:
    found = denoise(digits_model, "digits", "--corrupt", "salt-pepper:0.3", "--limit", 4)
    grey = (found["corrupted"] > 0) & (found["corrupted"] < 1)
    np.testing.assert_allclose(found["samples"][grey], found["clean"][grey], atol=1e-5)


def test_values_are_clipped_unless_told_otherwise(denoise: Denoise, digits_model: Path) -> None:
    options = (digits_model, "digits", *NOISE, "--limit", 9)
    free = denoise(*options, "--no-clip")["samples"]
    assert free.min() < 0
    np.testing.assert_array_equal(denoise(*options)["samples"], free.clip(0, 1))


def test_vectors_are_restored(denoise: Denoise, call: Call, vector_model: Path) -> None:
    found = denoise(vector_model, "gaussian:2", "--corrupt", "gaussian:0.5", "--limit", 200)
    noise = found["corrupted"] - found["clean"]
    assert noise.std() == pytest.approx(0.5, rel=0.15)
    metrics = call("eval", "out.h5", "--metric", "mse", "--json").json["metrics"]
    assert metrics["mse"] == pytest.approx(((found["samples"] - found["clean"]) ** 2).mean())


def test_noise_of_standardised_vectors_is_in_units_of_each_column(
    denoise: Denoise, standardised_model: Path
) -> None:
    data = standardised_model.with_name("x.npy")
    noise = ("--corrupt", "gaussian:0.5", "--limit", 200, "-q")
    found = denoise(standardised_model, f"{data}", *noise)
    noise = (found["corrupted"] - found["clean"]).std(axis=0) / [1, 100, 0.01]
    np.testing.assert_allclose(noise, 0.5, rtol=0.25)


@pytest.mark.parametrize("method", ["single-step", "sequential", "langevin", None])
def test_staged_models_restore(method: str | None, call: Call, staged_model: Path) -> None:
    levels = call("info", staged_model, "--json").json["config"]["levels"]
    options = ("--corrupt", f"gaussian:{levels[0]}", "--limit", 5)
    chosen = () if method is None else ("--method", method)
    done = call("denoise", staged_model, "gaussian:2", *options, *chosen, "-o", "o.h5", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["metrics"]["sigma"] == pytest.approx(levels[0])


def test_a_level_far_from_the_noise_is_told(call: Call, staged_model: Path) -> None:
    options = ("--corrupt", "gaussian:0.3", "--limit", 5, "-o", "o.h5")
    done = call("denoise", staged_model, "gaussian:2", *options)
    assert (done.code, done.out, done.err.count("\n")) == (0, b"", 1)
    assert "0.3" in done.err


# figures


def test_plot_draws_the_versions_under_each_other(
    call: Call, denoise: Denoise, digits_model: Path, tmp_path: Path
) -> None:
    from PIL import Image

    denoise(digits_model, "digits", *NOISE, "--limit", 4)
    assert call("plot", "out.h5", "-o", "out.png").code == 0
    assert call("data", "digits", "--limit", 4, "-o", "d.h5").code == 0
    assert call("plot", "d.h5", "--columns", 4, "-o", "d.png").code == 0
    with Image.open(tmp_path / "out.png") as three, Image.open(tmp_path / "d.png") as one:
        assert three.height / three.width > 2 * one.height / one.width


@pytest.mark.parametrize(
    ("metric", "code"), [("psnr,ssim,mse", 2), ("psnr", 0), ("psnr,moments", 0)]
)
def test_eval_measures_what_fits(
    metric: str, code: int, call: Call, denoise: Denoise, digits_model: Path
) -> None:
    denoise(digits_model, "digits", *NOISE, "--limit", 4)
    assert call("eval", "out.h5", "--metric", metric).code == code


def test_eval_of_what_has_no_clean_version_is_refused(call: Call, noisy: Path) -> None:
    done = call("eval", noisy, "--metric", "psnr")
    assert (done.code, done.err.count("\n"), "clean" in done.err) == (65, 1, True)


# what is refused


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ("--corrupt blur:1", 2, "--corrupt"),
        ("--corrupt gaussian", 2, "--corrupt"),
        ("--corrupt gaussian:-1", 2, "--corrupt"),
        ("--corrupt gaussian:100", 2, "--corrupt"),
        ("--corrupt gaussian:1e-6", 2, "--corrupt"),
        ("--corrupt salt-pepper:1", 2, "--corrupt"),
        ("--corrupt mask:", 2, "--corrupt"),
        ("--corrupt mask:none.npy", 66, "none.npy"),
        ("--corrupt mask:damaged.npy", 65, "damaged.npy"),
        ("--corrupt mask:damaged.png", 65, "damaged.png"),
        ("--corrupt mask:wide.npy", 65, "wide.npy"),
        ("--corrupt mask:half.npy --sigma 0.5", 2, "--sigma"),
        ("--corrupt mask:half.npy --method ode", 2, "--method particles"),
        ("--corrupt salt-pepper:0.3 --sigma 0.5", 2, "--sigma"),
        ("--sigma 0", 2, "--sigma"),
        ("--sigma nan", 2, "--sigma"),
        ("--sigma 50", 2, "--sigma"),
        ("--corrupt gaussian:0.6 --method best", 2, "--method"),
        ("--corrupt gaussian:0.6 --method sequential --steps 3", 2, "--steps"),
        ("--corrupt gaussian:0.6 --steps 0", 2, "--steps"),
        ("--corrupt gaussian:0.6 --particles 3", 2, "--particles"),
        ("--corrupt gaussian:0.6 --method particles --particles 0", 2, "--particles"),
        ("--corrupt gaussian:0.6 --lag 3", 2, "--lag"),
        ("--corrupt gaussian:0.6 --batch-size 0", 2, "--batch-size"),
        ("--corrupt gaussian:0.6 --device tpu", 2, "--device"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    options: str,
    code: int,
    named: str,
    call: Call,
    digits_model: Path,
    tmp_path: Path,
    half: Path,
) -> None:
    for name in ("damaged.npy", "damaged.png"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    np.save(tmp_path / "wide.npy", np.ones((9, 8)))
    done = call("denoise", digits_model, "digits", "--limit", 2, "-o", "o.h5", *options.split())
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1), done.err
    assert named in done.err
    assert not (tmp_path / "o.h5").exists()


def test_models_of_likelihoods_are_refused(call: Call, likelihood_model: Path) -> None:
    done = call("denoise", likelihood_model, "gaussian:2", "--sigma", 1, "-o", "o.h5")
    assert (done.code, done.err.count("\n"), "m.safetensors" in done.err) == (65, 1, True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--corrupt salt-pepper:0.3", "images"),
        ("", "--sigma"),
        ("--corrupt gaussian:0.6 --method ode", "ode"),
        ("--corrupt gaussian:0.6 --method particles", "particles"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    options: str, named: str, call: Call, staged_model: Path, tmp_path: Path
) -> None:
    done = call("denoise", staged_model, "gaussian:2", "-o", "o.h5", *options.split())
    assert (done.code, done.err.count("\n"), named in done.err) == (2, 1, True)


def test_examples_of_another_shape_are_refused(call: Call, digits_model: Path) -> None:
    done = call("denoise", digits_model, "rings", *NOISE, "-o", "o.h5")
    assert (done.code, done.err.count("\n"), "rings" in done.err) == (65, 1, True)


def test_an_existing_output_is_refused(call: Call, digits_model: Path, tmp_path: Path) -> None:
    (tmp_path / "o.h5").write_text("mine")
    done = call("denoise", digits_model, "digits", *NOISE, "-o", "o.h5")
    assert (done.code, "o.h5" in done.err) == (73, True)
    assert (tmp_path / "o.h5").read_text() == "mine"


def test_the_help_shows_examples(call: Call) -> None:
    text = call("denoise", "--help").out.decode()
    assert text.count("arcsm denoise") >= 4
    for word in ("gaussian:S", "salt-pepper:P", "mask:FILE", "single-step", "particles"):
        assert word in text
