"""``--objective mle``: from training to samples, figures and plots of normalised conditionals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.cli.files import contents, read

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]

PIXELCNN = (
    *("--context", "pixelcnn", "--filters", 4, "--resnet-blocks", 1, "--dropout", 0),
    *("--batch-size", 40, "--limit", 80),
)
MADE = ("--hidden", "16,16")
# The models that the tests share, each trained once: data, and options of the training.
MODELS: dict[str, tuple[Any, ...]] = {
    "discretized": ("digits", *PIXELCNN, "--steps", 6),
    "perturbed": ("digits", *PIXELCNN, "--sigma-min", 0.1, "--steps", 2),
    "masked": ("digits", *MADE, "--likelihood", "discretized-logistic-mixture", "--steps", 10),
    "vectors": (
        "gaussian:2",
        "--limit",
        4000,
        *MADE,
        "--likelihood",
        "gaussian",
        "--sigma-min",
        0,
        "--steps",
        150,
    ),
    "noisy vectors": ("8gaussians", "--limit", 400, *MADE, "--sigma-min", 0.1, "--steps", 30),
}


@pytest.fixture(scope="session")
def models(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The model of a name in `MODELS`."""
    found: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in found:
            path = tmp_path_factory.mktemp(name.replace(" ", "-")) / "model.safetensors"
            arguments = ("train", *MODELS[name], "--objective", "mle", "-q", "-o", path)
            done = call_in(path.parent, *arguments)
            assert (done.code, done.out, done.err) == (0, b"", "")
            found[name] = path
        return found[name]

    return get


@pytest.fixture
def evaluate(call: Call) -> Callable[..., dict[str, Any]]:
    """What ``arcsm eval --json`` says."""

    def evaluate(*arguments: object) -> dict[str, Any]:
        done = call("eval", *arguments, "-q", "--json")
        assert (done.code, done.err) == (0, "")
        return done.json

    return evaluate


@pytest.fixture
def draw(call: Call, tmp_path: Path) -> Callable[..., Any]:
    """Draws samples and returns them, (N, ...)."""

    def draw(*arguments: object) -> Any:
        done = call("sample", *arguments, "--force", "-q", "-o", "drawn.h5")
        assert (done.code, done.out, done.err) == (0, b"", "")
        return read(tmp_path / "drawn.h5")

    return draw


# Training


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ("--likelihood gaussian", 2),
        ("--components 4", 12),
        ("--likelihood logistic-mixture", 30),
        ("--order random --residual --standardize --annealing none", 30),
        ("--precision bf16 --grad-accumulation 2 --sigma-min 0", 30),
    ],
)
def test_vectors_are_modelled_with_every_option(
    options: str, width: int, call: Call, tmp_path: Path
) -> None:
    common = ("--objective", "mle", "--hidden", "8", "--steps", 2, "-o", "m.safetensors")
    done = call("train", "moons", "--limit", 400, *common, *options.split(), "-q")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert contents(tmp_path / "m.safetensors")[1]["context_width"] == width
    assert call("sample", "m.safetensors", "-n", 2, "-o", "s.h5").code == 0
    assert call("eval", "m.safetensors", "moons", "--limit", 2).code == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--annealing joint", "--annealing joint is for --objective csm, dsm or ssm"),
        ("--annealing staged", "--annealing staged is for --objective csm, dsm or ssm"),
        ("--sigma-max 3", "--sigma-max is for --objective csm, dsm or ssm"),
        ("--levels 3", "--levels is for --objective csm, dsm or ssm"),
        ("--score-hidden 8", "--score-hidden is for --objective csm, dsm or ssm"),
        ("--context-width 8", "--context-width is for --objective csm, dsm or ssm"),
        ("--draws 2", "--draws is for --objective csm, dsm or ssm"),
        ("--sigma-min -1", "--sigma-min -1"),
        ("--sigma-min nan", "--sigma-min nan"),
        ("--likelihood laplace", "--likelihood"),
        ("--likelihood gaussian --components 3", "--components is for mixtures"),
        ("--likelihood discretized-logistic-mixture", "gaussian:2:train holds vectors"),
        ("--likelihood discretized-logistic-mixture --sigma-min 0.1", "no --sigma-min"),
        ("--components 0", "--components"),
        ("--components 4097", "--components"),
        ("--context pixelcnn", "--hidden is for --context made"),
        ("--objective csm --likelihood gaussian", "--likelihood is for --objective mle"),
        ("--objective dsm --components 3", "--components is for --objective mle"),
        ("--objective dsm --annealing none --sigma-min 0", "--objective dsm needs noise"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_a_line_that_names_them(
    options: str, named: str, call: Call, tmp_path: Path
) -> None:
    common = ("--objective", "mle", "--hidden", "8", "--steps", 2, "-o", "m.safetensors")
    done = call("train", "gaussian:2", *common, *options.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--objective csm --sigma-min 0.1", "--objective is csm, but the run to resume has mle"),
        ("--likelihood gaussian", "--likelihood is gaussian"),
        ("--components 5", "--components is 5"),
        ("--sigma-min 0.2", "--sigma-min is 0.2, but the run to resume has 0.1"),
        ("--hidden 9", "--hidden is 9"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    option: str, named: str, models: Any, call: Call
) -> None:
    path = models("noisy vectors")
    before = path.read_bytes()
    arguments = ("--objective", "mle", "-o", path, "--resume", *option.split())
    done = call("train", *MODELS["noisy vectors"], *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert path.read_bytes() == before


# Sampling


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("discretized", marks=pytest.mark.slow),
        "masked",
        pytest.param("noisy vectors", marks=pytest.mark.slow),
    ],
)
def test_sampling_is_ancestral_without_being_told(name: str, models: Any, draw: Any) -> None:
    first, same = (
        draw(models(name), "-n", 5, "--seed", 3, *flag) for flag in ([], ["--sampler", "ancestral"])
    )
    assert first.tobytes() == same.tobytes()
    assert len(np.unique(first, axis=0)) == 5
    other = draw(models(name), "-n", 5, "--seed", 4)
    assert not np.isclose(first, other).all(axis=tuple(range(1, first.ndim))).any()


@pytest.mark.parametrize("name", ["discretized", "masked"])
def test_samples_of_8_bit_models_are_8_bit_values(name: str, models: Any, draw: Any) -> None:
    drawn = draw(models(name), "-n", 4, "--no-clip")
    assert drawn.shape == (4, 1, 8, 8)
    np.testing.assert_allclose(drawn * 255, np.round(drawn * 255), atol=1e-3)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize(
    "name", [pytest.param("perturbed", marks=pytest.mark.slow), "noisy vectors"]
)
def test_denoising_changes_samples_by_about_the_noise(name: str, models: Any, draw: Any) -> None:
    noisy, clean = (draw(models(name), "-n", 20, "--no-clip", *f) for f in ([], ["--denoise"]))
    assert (noisy != clean).mean() > 0.9
    scale = 2 if name == "perturbed" else 1  # images are modelled in [-1, 1]
    assert np.median(np.abs(noisy - clean)) * scale < 0.1


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("vectors", "--sampler ode", "--sampler ode"),
        ("vectors", "--sampler langevin", "--sampler langevin"),
        ("vectors", "--sampler grid", "use ancestral"),
        ("vectors", "--steps 3", "--steps does not apply"),
        ("vectors", "--points 64", "--points does not apply"),
        ("vectors", "--step-size 0.1", "--step-size does not apply"),
        ("vectors", "--denoise", "--denoise"),
        ("vectors", "--png s.png", "--png"),
        ("discretized", "--denoise", "--denoise"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    name: str, options: str, named: str, models: Any, call: Call, tmp_path: Path
) -> None:
    done = call("sample", models(name), "-o", "s.h5", *options.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


def test_score_models_are_not_sampled_ancestrally(
    vector_model: Path, call: Call, tmp_path: Path
) -> None:
    done = call("sample", vector_model, "--sampler", "ancestral", "-o", "s.h5")
    assert (done.code, done.err.count("\n"), "use ode, langevin or grid" in done.err) == (
        2,
        1,
        True,
    )
    assert list(tmp_path.iterdir()) == []


# Figures


@pytest.mark.parametrize("name", ["discretized", "masked"])
def test_8_bit_models_give_bits_of_8_bit_values(name: str, models: Any, evaluate: Any) -> None:
    found = evaluate(models(name), "digits", "--limit", 9)
    assert (found["density"], found["method"]) == ("probabilities of 8-bit images", "direct")
    assert "bpd_of_the_noise_alone" not in found
    metrics = found["metrics"]
    assert set(metrics) == {"nll", "nll_se", "bpd", "bpd_se"}
    assert metrics["bpd"] == pytest.approx(metrics["nll"] / 64 / math.log(2))
    assert 0 < metrics["bpd"] < 16


def test_a_little_training_beats_equal_probabilities(models: Any, evaluate: Any) -> None:
    found = evaluate(models("masked"), "digits", "--metric", "bpd")["metrics"]
    assert found["bpd"] < 8


def test_the_probabilities_are_of_the_nearest_8_bit_values(
    models: Any, evaluate: Any, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(1, 255, (5, 1, 8, 8))
    for name, shift in (("exact", 0.0), ("between", 0.4)):
        np.save(tmp_path / f"{name}.npy", ((values + shift) / 255).astype(np.float32))
    exact, between = (
        evaluate(models("masked"), tmp_path / f"{name}.npy")["metrics"]
        for name in ("exact", "between")
    )
    assert exact == pytest.approx(between)


def test_perturbed_models_say_the_noise_and_its_share(models: Any, evaluate: Any) -> None:
    found = evaluate(models("perturbed"), "digits", "--limit", 9)
    assert found["density"] == "images in [-1, 1] plus normal noise of sigma 0.1"
    # Half the width of the 8-bit scale is the unit of [-1, 1].
    floor = math.log2(127.5 * 0.1 * math.sqrt(2 * math.pi * math.e))
    assert found["bpd_of_the_noise_alone"] == pytest.approx(floor)
    metrics = found["metrics"]
    assert metrics["bpd"] > floor
    nats = metrics["nll"] / 64 + math.log(127.5)
    assert metrics["bpd"] == pytest.approx(nats / math.log(2))


def test_noiseless_densities_have_no_floor(models: Any, evaluate: Any) -> None:
    found = evaluate(models("vectors"), "gaussian:2", "--limit", 9)
    assert found["density"] == "data in file units"
    assert "bpd_of_the_noise_alone" not in found
    assert found == evaluate(models("vectors"), "gaussian:2", "--limit", 9, "--no-perturb")


@pytest.mark.slow
def test_a_trained_model_comes_near_the_entropy(models: Any, evaluate: Any) -> None:
    from arcsm_cli.data.densities import entropy

    found = evaluate(models("vectors"), "gaussian:2", "--metric", "nll")["metrics"]
    assert found["nll"] == pytest.approx(entropy("gaussian:2", 0.0), abs=0.1)


# Plots


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("", marks=pytest.mark.slow),
        "--slices -1,0.5",
        pytest.param("--scale nats", marks=pytest.mark.slow),
    ],
)
def test_the_density_of_two_variables_is_drawn(
    options: str, models: Any, call: Call, tmp_path: Path
) -> None:
    done = call("plot", models("noisy vectors"), "--density", "-o", "density.png", *options.split())
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_points_are_drawn_over_the_density(models: Any, call: Call, tmp_path: Path) -> None:
    model = models("vectors")
    assert call("sample", model, "-n", 50, "-o", "points.h5").code == 0
    assert call("plot", "points.h5", "--model", model, "-o", "both.png").code == 0
    assert (tmp_path / "both.png").exists()


def test_the_density_of_images_is_not_drawn(models: Any, call: Call, tmp_path: Path) -> None:
    done = call("plot", models("discretized"), "--density", "-o", "density.png")
    assert (done.code, done.err.count("\n"), "--density" in done.err) == (2, 1, True)
    assert list(tmp_path.iterdir()) == []


# Pipes
