"""``arcsm eval``: figures of models and samples, and which density they are of."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(call: Call) -> Evaluate:
    """What ``arcsm eval --json`` says."""

    def evaluate(*arguments: object, **options: Any) -> dict[str, Any]:
        done = call("eval", *arguments, "--json", **options)
        assert (done.code, done.err) == (0, "")
        return done.json

    return evaluate


def test_every_metric_is_measured_by_default(evaluate: Evaluate, vector_model: Path) -> None:
    found = evaluate(vector_model, "gaussian:2", "--limit", 20)
    assert set(found["metrics"]) == {"nll", "nll_se", "bpd", "bpd_se", "csm", "csm_se"}
    assert all(math.isfinite(value) for value in found["metrics"].values())
    assert (found["data"], found["examples"]) == ("gaussian:2:test", 20)


@pytest.mark.parametrize("names", ["nll", "csm", "bpd,nll"])
def test_only_the_metrics_asked_for_are_given(
    names: str, evaluate: Evaluate, vector_model: Path
) -> None:
    found = evaluate(vector_model, "gaussian:2", "--limit", 4, "--metric", names)
    wanted = {f"{name}{end}" for name in names.split(",") for end in ("", "_se")}
    assert set(found["metrics"]) == wanted


@pytest.mark.parametrize("method", ["flow", "quadrature"])
def test_each_method_says_itself_and_the_density(
    method: str, call: Call, digits_model: Path
) -> None:
    done = call("eval", digits_model, "digits", "--limit", 3, "--method", method)
    lines = dict(line.split(maxsplit=1) for line in done.out.decode().splitlines() if " " in line)
    assert lines["method"] == method
    assert lines["density"] == "images in [-1, 1] plus normal noise of sigma 0.04"


def test_data_that_carry_the_noise_already_are_said_to(
    evaluate: Evaluate, vector_model: Path
) -> None:
    found = evaluate(vector_model, "gaussian:2", "--limit", 4, "--no-perturb")
    assert "already perturbed" in found["density"]
    assert found["metrics"] != evaluate(vector_model, "gaussian:2", "--limit", 4)["metrics"]


def test_staged_models_take_quadrature_alone(
    evaluate: Evaluate, call: Call, staged_model: Path
) -> None:
    assert evaluate(staged_model, "gaussian:2", "--limit", 4)["method"] == "quadrature"
    done = call("eval", staged_model, "gaussian:2", "--method", "flow")
    assert (done.code, done.err.count("\n"), "--method flow" in done.err) == (2, 1, True)


def test_bits_are_those_of_the_nats_on_the_scale_of_pixels(
    evaluate: Evaluate, digits_model: Path
) -> None:
    found = evaluate(digits_model, "digits", "--limit", 4)["metrics"]
    bits = found["nll"] / (64 * math.log(2)) + math.log2(127.5)
    assert found["bpd"] == pytest.approx(bits)


def test_the_seed_is_that_of_the_noise(evaluate: Evaluate, vector_model: Path) -> None:
    options = (vector_model, "gaussian:2", "--limit", 5, "--metric", "nll")
    first, same, other = (evaluate(*options, "--seed", seed)["metrics"] for seed in (1, 1, 2))
    assert first == same
    assert first["nll"] != other["nll"]


def test_one_example_has_no_standard_error(evaluate: Evaluate, vector_model: Path) -> None:
    found = evaluate(vector_model, "gaussian:2", "--limit", 1, "--metric", "nll")["metrics"]
    assert math.isfinite(found["nll"])
    assert found["nll_se"] is None


def test_references_take_the_shape_of_the_model(evaluate: Evaluate, digits_model: Path) -> None:
    options = ("--limit", 2, "--metric", "csm")
    assert evaluate(digits_model, "constant-uniform", *options)["examples"] == 2


def test_samples_like_the_data_are_nearer_to_them_than_others(
    evaluate: Evaluate, call: Call, tmp_path: Path
) -> None:
    for name, data in (("same.h5", "gaussian:2:train"), ("other.h5", "rings:train")):
        assert call("data", data, "--limit", 500, "-o", name).code == 0
    options = ("--against", "gaussian:2", "--limit", 500)
    same, other = (evaluate(name, *options)["metrics"] for name in ("same.h5", "other.h5"))
    sliced = {f"sliced_wasserstein{end}" for end in ("", "_se", "_floor")}
    assert set(same) == {"mean", "sd", "min", "max", "energy"} | sliced
    assert abs(same["energy"]) < 0.05 < other["energy"]


def test_moments_are_those_of_all_values(
    evaluate: Evaluate, write_samples: Callable[..., Path]
) -> None:
    found = evaluate(write_samples("s.h5", 4, (2,)))
    assert found["samples"] == 4
    sd = float(np.std([0, 1, 2, 3]))
    assert found["metrics"] == pytest.approx({"mean": 1.5, "sd": sd, "min": 0, "max": 3})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("MODEL", "DATA"),
        ("MODEL gaussian:2 --metric fid", "--metric fid"),
        ("MODEL gaussian:2 --metric energy", "--metric energy"),
        ("MODEL gaussian:2 --method exact", "--method"),
        ("MODEL gaussian:2 --metric csm --method flow", "--method flow"),
        ("MODEL --against gaussian:2", "--against"),
        ("MODEL gaussian:2 --limit 0", "--limit"),
        ("MODEL gaussian:2 --batch-size 0", "--batch-size"),
        ("MODEL digits:valid", "valid"),
        ("SAMPLES gaussian:2", "--against"),
        ("SAMPLES --method flow", "--method"),
        ("SAMPLES -o scored.h5", "-o"),
        ("SAMPLES --metric nll", "--metric nll"),
        ("SAMPLES --metric energy", "--against"),
        ("- -", "standard input"),
        ("- --against -", "standard input"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line_that_names_it(
    arguments: str, named: str, call: Call, vector_model: Path, samples: Path, tmp_path: Path
) -> None:
    files = {"MODEL": str(vector_model), "SAMPLES": str(samples)}
    done = call("eval", *(files.get(word, word) for word in arguments.split()))
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == [samples]


@pytest.mark.parametrize("data", ["digits", "gaussian:64", "samples.h5"])
def test_data_of_another_shape_are_refused_with_both_shapes(
    data: str, call: Call, write_samples: Callable[..., Path], vector_model: Path
) -> None:
    write_samples("samples.h5", 2, (5,))
    done = call("eval", vector_model, data)
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert data in done.err
    assert "2" in done.err


def test_an_existing_output_is_refused_before_any_work(
    call: Call, vector_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "scored.h5").write_text("mine")
    done = call("eval", vector_model, "gaussian:2", "-o", "scored.h5")
    assert (done.code, done.out, done.err.count("\n")) == (73, b"", 1)
    assert (tmp_path / "scored.h5").read_text() == "mine"
