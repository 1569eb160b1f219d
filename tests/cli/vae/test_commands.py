"""What sample, eval and plot make of a VAE, as real programs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.cli.files import datasets
from tests.cli.vae.vaes import FEW, QUICK, each, either

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]

# From training to a figure, by every method


@either
def test_samples_of_binary_data_are_binary_and_those_denoised_are_grey(
    vaes: Any, draw: Any, method: str
) -> None:
    drawn, means = draw(vaes(method), "-n", 6), draw(vaes(method), "-n", 6, "--denoise")
    assert drawn.shape == means.shape == (6, 1, 8, 8)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert ((means > 0) & (means < 1)).all()


@either
def test_bounds_are_measured_by_default(vaes: Any, evaluate: Any, method: str) -> None:
    found = evaluate(vaes(method), "digits", "--limit", 6)
    metrics = found["metrics"]
    assert set(metrics) == {"elbo", "elbo_se", "iwae", "iwae_se"}
    assert 0 < metrics["iwae"] < metrics["elbo"] < 64 * 3
    assert (found["examples"], "binarised" in found["density"]) == (6, True)


@pytest.mark.slow
@each
def test_the_likelihood_is_measured_by_annealing(vaes: Any, evaluate: Any, method: str) -> None:
    more = ("--metric", "ais,iwae", "--temperatures", 60, "--importance-samples", 300)
    found = evaluate(vaes(method), "digits", "--limit", 4, *more)["metrics"]
    assert found["ais"] == pytest.approx(found["iwae"], abs=15)


# Samples


def test_samples_are_drawn_as_a_picture(vaes: Any, call: Call, tmp_path: Path) -> None:
    done = call("sample", vaes("csm"), "-n", 4, "--denoise", "-o", "s.h5", "--png", "grid.png")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_samples_of_vectors_are_in_file_units(
    vector_vae: Path, draw: Any, call: Call, tmp_path: Path
) -> None:
    assert draw(vector_vae, "-n", 5).shape == (5, 3)
    x = np.random.default_rng(0).normal(1000, 5, (300, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    arguments = ("--hidden", "8,8", "--steps", 3, "-o", "m.safetensors")
    assert call("vae-train", "x.npy", *arguments).code == 0
    drawn = draw("m.safetensors", "-n", 400)
    assert drawn.mean() == pytest.approx(1000, abs=10)


@pytest.mark.parametrize(
    "more", ["--sampler ode", "--sampler ancestral", "--steps 3", "--step-size 0.1", "--points 9"]
)
def test_options_of_samplers_are_refused(more: str, vaes: Any, call: Call, tmp_path: Path) -> None:
    done = call("sample", vaes("csm"), "-o", "s.h5", *more.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert more.split()[0] in done.err
    assert "VAE" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("vae", "--chains 3"),
        ("vae", "--temperatures 9"),
        ("vae", "--precision bf16"),
        ("vae", "--metric ais --importance-samples 9"),
        ("samples", "--importance-samples 9"),
    ],
)
def test_options_of_other_figures_are_refused(
    file: str, more: str, vaes: Any, call: Call, tmp_path: Path
) -> None:
    path: Any = vaes("csm")
    data = ["digits"]
    if file == "samples":
        call("sample", path, "-n", 2, "-o", "s.h5")
        path, data = "s.h5", []
    done = call("eval", path, *data, *more.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert more.split()[-2] in done.err


def test_vectors_have_no_picture(vector_vae: Path, call: Call) -> None:
    done = call("sample", vector_vae, "-o", "s.h5", "--png", "grid.png")
    assert (done.code, done.err.count("\n"), "--png" in done.err) == (2, 1, True)


# Figures of data


def test_examples_are_written_as_evaluated_with_their_figures(
    vaes: Any, call: Call, tmp_path: Path
) -> None:
    more = ("--metric", "elbo,iwae,ais", "--limit", 5, *QUICK)
    result = call("eval", vaes("csm"), "digits", *more, "--json", "-o", "scored.h5").json
    held = datasets(tmp_path / "scored.h5")
    assert set(np.unique(held["samples"])) == {0.0, 1.0}
    for name in ("elbo", "iwae", "ais"):
        values = held[f"statistics/{name}"]
        assert float(values.mean()) == pytest.approx(result["metrics"][name], rel=1e-5)


def test_figures_are_a_function_of_the_seed(vaes: Any, evaluate: Any) -> None:
    arguments = (vaes("csm"), "digits", "--limit", 3, "--metric", "elbo,ais")
    one, same, other = (evaluate(*arguments, "--seed", s)["metrics"] for s in (0, 0, 1))
    assert one == same != other


@pytest.mark.slow
def test_low_precision_gives_nearly_the_same_figure(vaes: Any, call: Call) -> None:
    arguments = ("--metric", "ais", "--limit", 4, "--chains", 4, "--temperatures", 40, "--json")
    found = [
        call("eval", vaes("csm"), "digits", *arguments, "--precision", p).json["metrics"]["ais"]
        for p in ("fp32", "bf16")
    ]
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], abs=2)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("--metric nll", "--metric nll"),
        ("--metric csm", "--metric csm"),
        ("--metric energy", "--metric energy"),
        ("--method flow", "--method"),
        ("--no-perturb", "--no-perturb"),
        ("--feature-weights x.safetensors", "--feature-weights"),
        ("--metric fid -o s.h5", "-o"),
        ("--temperatures 1", "--temperatures"),
        ("--chains 0", "--chains"),
        ("--importance-samples 0", "--importance-samples"),
        ("--precision fp16", "--precision"),
    ],
)
def test_measures_of_other_models_are_refused(
    more: str, named: str, vaes: Any, call: Call, tmp_path: Path
) -> None:
    done = call("eval", vaes("csm"), "digits", "--limit", 2, *more.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", ["elbo", "iwae", "ais"])
def test_measures_of_vaes_are_refused_for_other_models(
    metric: str, digits_model: Path, call: Call
) -> None:
    done = call("eval", digits_model, "digits", "--metric", metric)
    assert (done.code, done.err.count("\n"), f"--metric {metric}" in done.err) == (2, 1, True)


def test_distances_between_images_need_the_networks_weights(
    vaes: Any, call: Call, tmp_path: Path
) -> None:
    done = call(
        *("eval", vaes("csm"), "digits", "--limit", 4, "--metric", "fid"),
        *("--data-dir", tmp_path / "nowhere"),
    )
    assert (done.code, done.out, done.err.count("\n")) == (69, b"", 1)
    assert "--download" in done.err


def test_distances_of_vectors_are_refused(vector_vae: Path, call: Call) -> None:
    done = call("eval", vector_vae, "gaussian:3", "--metric", "kid")
    assert (done.code, done.err.count("\n"), "--metric kid" in done.err) == (2, 1, True)


def test_data_of_another_shape_are_refused(vaes: Any, call: Call) -> None:
    done = call("eval", vaes("csm"), "gaussian:3", *FEW)
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert "gaussian:3" in done.err


# Plots


def test_reconstructions_are_drawn(vaes: Any, call: Call, tmp_path: Path) -> None:
    done = call("plot", vaes("csm"), "--data", "digits", "-n", 5, "-o", "r.png")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_codes_are_drawn(vaes: Any, call: Call, tmp_path: Path) -> None:
    more = ("--data", "digits", "--latent", "-n", 50)
    done = call("plot", vaes("elbo"), *more, "-o", "codes.png")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "codes.png").read_bytes().startswith(b"\x89PNG")


def test_codes_of_vectors_are_drawn(vector_vae: Path, call: Call) -> None:
    done = call("plot", vector_vae, "--data", "gaussian:3", "--latent", "-n", 50, "-o", "-")
    assert (done.code, done.out[:4], done.err) == (0, b"\x89PNG", "")


@pytest.mark.parametrize(
    ("more", "code", "named"),
    [
        ("--latent", 2, "--data"),
        ("--data digits --latent --columns 3", 2, "--columns"),
        ("--data digits --density", 2, "--data"),
        ("--data digits --scale nats", 2, "--data"),
        ("--columns 3", 2, "--columns"),
        ("--density", 65, "kind vae"),
        ("--data gaussian:3", 65, "gaussian:3"),
        ("--data nowhere.h5", 66, "nowhere.h5"),
    ],
)
def test_figures_that_cannot_be_are_refused(
    more: str, code: int, named: str, vaes: Any, call: Call, tmp_path: Path
) -> None:
    done = call("plot", vaes("csm"), *more.split(), "-o", "f.png")
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


def test_reconstructions_of_vectors_are_refused(vector_vae: Path, call: Call) -> None:
    done = call("plot", vector_vae, "--data", "gaussian:3", "-o", "f.png")
    assert (done.code, done.err.count("\n"), "--latent" in done.err) == (2, 1, True)


def test_only_a_vae_is_drawn_on_data(digits_model: Path, call: Call, tmp_path: Path) -> None:
    done = call("plot", digits_model, "--data", "digits", "-o", "f.png")
    assert (done.code, done.err.count("\n"), "VAE" in done.err) == (2, 1, True)
    call("sample", digits_model, "-n", 2, "-o", "s.h5")
    done = call("plot", "s.h5", "--data", "digits", "-o", "f.png")
    assert (done.code, done.err.count("\n"), "--data" in done.err) == (2, 1, True)
