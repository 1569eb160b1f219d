"""``arcsm eval SAMPLES --against DATA``: distances, and the weights that some of them need."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

pytest_plugins = ["tests.cli.preloaded", "tests.evaluation.inception"]

Call = Callable[..., "Done"]
Evaluate = Callable[..., dict[str, Any]]

MOMENTS = {"mean", "sd", "min", "max"}
SLICED = {f"sliced_wasserstein{end}" for end in ("", "_se", "_floor")}
NOWHERE = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def evaluate(call: Call) -> Evaluate:
    """What ``arcsm eval --json`` says."""

    def evaluate(*arguments: object, **options: Any) -> dict[str, Any]:
        done = call("eval", *arguments, "--json", **options)
        assert (done.code, done.err) == (0, "")
        return done.json

    return evaluate


@pytest.fixture
def staged(call: Call, tmp_path: Path) -> Callable[..., str]:
    """Puts data into a sample file."""

    def stage(name: str, data: str, *options: object) -> str:
        assert call("data", data, *options, "-o", name).code == 0
        return name

    return stage


def test_what_needs_no_network_is_measured_by_default(
    evaluate: Evaluate, staged: Callable[..., str]
) -> None:
    found = evaluate(staged("s.h5", "digits:train", "--limit", 90), "--against", "digits")
    assert found["metrics"].keys() == MOMENTS | {"energy"} | SLICED
    assert all(math.isfinite(value) for value in found["metrics"].values())
    assert (found["samples"], found["against"], found["examples"]) == (90, "digits:test", 359)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("energy", {"energy"}),
        ("sliced-wasserstein", SLICED),
        ("sliced-wasserstein,moments", SLICED | MOMENTS),
    ],
)
def test_only_the_metrics_asked_for_are_given(
    names: str, wanted: set[str], evaluate: Evaluate, staged: Callable[..., str]
) -> None:
    name = staged("s.h5", "gaussian:2:train", "--limit", 20)
    options = ("--against", "gaussian:2", "--limit", 20, "--metric", names)
    assert evaluate(name, *options)["metrics"].keys() == wanted


def test_samples_like_the_data_are_at_the_floor_and_others_above(
    evaluate: Evaluate, staged: Callable[..., str]
) -> None:
    same = staged("same.h5", "gaussian:2:train", "--limit", 500)
    other = staged("other.h5", "rings:train", "--limit", 500)
    options = ("--against", "gaussian:2", "--limit", 500)
    ratios = []
    for name in (same, other):
        figures = evaluate(name, *options)["metrics"]
        ratios.append(figures["sliced_wasserstein"] / figures["sliced_wasserstein_floor"])
    assert ratios[0] < 2 < 4 < ratios[1]


def test_the_seed_is_that_of_the_directions(evaluate: Evaluate, staged: Callable[..., str]) -> None:
    name = staged("s.h5", "gaussian:2:train", "--limit", 20)
    options = ("--against", "gaussian:2", "--limit", 20, "--metric", "sliced-wasserstein")
    first, same, other = (evaluate(name, *options, "--seed", n)["metrics"] for n in (1, 1, 2))
    assert first == same
    assert first["sliced_wasserstein"] != other["sliced_wasserstein"]


def test_samples_are_compared_through_a_pipe(
    pipeline: Callable[..., list["Done"]], digits_model: Path
) -> None:
    dones = pipeline(
        ("sample", digits_model, "-n", 8, "--steps", 4, "-o", "-"),
        ("eval", "-", "--against", "digits", "--json"),
    )
    assert [(done.code, done.err) for done in dones] == [(0, "")] * 2
    found = dones[-1].json
    assert found["samples"] == 8
    assert found["metrics"].keys() == MOMENTS | {"energy"} | SLICED


@pytest.mark.slow
def test_fid_and_kid_are_measured_with_weights_from_a_file(
    call: Call, staged: Callable[..., str], inception_file: Path
) -> None:
    name = staged("s.h5", "digits:train", "--limit", 4)
    options = ("--against", "digits", "--limit", 5, "--metric", "fid,kid", "--json")
    done = call("eval", name, *options, "--feature-weights", inception_file, env=NOWHERE)
    assert done.code == 0
    assert done.err.startswith("arcsm eval: warning: fid of 4 samples and 5 examples")
    assert done.err.count("\n") == 1
    assert done.json["metrics"].keys() == {"fid", "kid", "kid_sd"}
    assert all(math.isfinite(value) for value in done.json["metrics"].values())
    digest = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    assert done.json["feature_weights"] == digest


@pytest.fixture
def refused(call: Call, staged: Callable[..., str], tmp_path: Path) -> Callable[..., None]:
    """Asserts how ``--metric fid`` is refused of images that are there."""
    name = staged("images.h5", "digits:train", "--limit", 4)

    def check(code: int, *named: str, options: tuple[object, ...] = ()) -> None:
        before = sorted(tmp_path.rglob("*.*"))
        environment = NOWHERE | {"ARCSM_DATA": str(tmp_path / "data")}
        command = ("eval", name, "--against", "digits", "--metric", "fid", *options)
        done = call(*command, env=environment)
        assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
        assert all(text in done.err for text in named)
        assert set(before) == set(tmp_path.rglob("*.*")) - set(tmp_path.rglob(".*.lock"))

    return check


def test_without_weights_the_line_says_what_to_do(refused: Callable[..., None]) -> None:
    refused(69, "--download", "--feature-weights")


def test_a_download_that_fails_is_code_69(refused: Callable[..., None]) -> None:
    refused(69, "inception-v3", "could not be downloaded", options=("--download",))


def test_weights_that_are_not_there_are_code_66(refused: Callable[..., None]) -> None:
    refused(66, "none.pth: no such file", options=("--feature-weights", "none.pth"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(200), b"no weights at all"])
def test_what_is_not_the_published_file_is_code_65(
    content: bytes, refused: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    named = ("bad.pth", "6726825d", ".safetensors")
    refused(65, *named, options=("--feature-weights", "bad.pth"))


def test_a_pickle_is_refused_unread(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "trap.pth").write_bytes(b"cos\nmkdir\n(S'sprung.here'\ntR.")
    refused(65, "trap.pth", options=("--feature-weights", "trap.pth"))


def test_damaged_weights_are_code_65(
    refused: Callable[..., None], inception_file: Path, tmp_path: Path
) -> None:
    with open(inception_file, "rb") as file:
        (tmp_path / "bad.safetensors").write_bytes(file.read(1 << 20))
    refused(65, "bad.safetensors", options=("--feature-weights", "bad.safetensors"))


def test_weights_of_another_network_are_code_65(
    refused: Callable[..., None], digits_model: Path
) -> None:
    refused(65, str(digits_model), options=("--feature-weights", digits_model))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("VECTORS --against gaussian:2 --metric fid", "vectors.h5 holds vectors"),
        ("TWO --against TWO --metric kid", "1 or 3 channels"),
        ("VECTORS --metric kid", "--against"),
        ("VECTORS --metric sliced-wasserstein", "--against"),
        ("VECTORS --against gaussian:2 --feature-weights w.pth", "--feature-weights"),
        ("MODEL gaussian:2 --feature-weights w.pth", "--feature-weights"),
        ("- --against gaussian:2 --metric fid --feature-weights -", "standard input"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line_that_names_it(
    arguments: str,
    named: str,
    call: Call,
    write_samples: Callable[..., Path],
    vector_model: Path,
) -> None:
    files = {
        "VECTORS": write_samples("vectors.h5").name,
        "TWO": write_samples("two.h5", shape=(2, 4, 4)).name,
        "MODEL": vector_model,
    }
    done = call("eval", *(files.get(word, word) for word in arguments.split()))
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_refused(
    count: int, call: Call, write_samples: Callable[..., Path]
) -> None:
    done = call("eval", write_samples("few.h5", count).name, "--against", "gaussian:2")
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert "few.h5" in done.err


def test_data_of_another_shape_are_refused_with_both_shapes(
    call: Call, write_samples: Callable[..., Path]
) -> None:
    done = call("eval", write_samples("s.h5", 4, (5,)).name, "--against", "gaussian:2")
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert "examples are 2, the samples 5" in done.err
