"""``arcsm vae-train``, and what the other commands make of a VAE, as a real program."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]

METHODS = ("elbo", "csm", "ssm", "ssm-ar", "stein", "spectral")
ESTIMATED = ("csm", "ssm", "ssm-ar")
each = pytest.mark.parametrize("method", METHODS)
either = pytest.mark.parametrize("method", ["elbo", "csm"])  # a normal and an implicit encoder
TINY = ("--hidden", "12,12", "--latent-dim", 2, "--batch-size", 16, "--limit", 200)
# Options of a method that keep it small.
OWN: dict[str, tuple[Any, ...]] = {
    "csm": ("--context-width", 4, "--score-hidden", "8"),
    "ssm-ar": ("--context-width", 4, "--score-hidden", "8"),
    "stein": ("--particles", 8),
    "spectral": ("--particles", 8),
}
FEW = ("--importance-samples", 5)
QUICK = ("--chains", 2, "--temperatures", 5, *FEW)


def options(method: str = "csm") -> tuple[Any, ...]:
    return ("--method", method, *TINY, *OWN.get(method, ()))


@pytest.fixture
def train(call: Call) -> Callable[..., "Done"]:
    """Trains a tiny VAE of digits for 3 steps, if not told otherwise."""

    def train(*more: object, data: object = "digits", method: str = "csm") -> "Done":
        length = () if {"--steps", "--epochs"} & set(more) else ("--steps", 3)
        where = () if "-o" in more else ("-o", "m.safetensors")
        return call("vae-train", data, *options(method), *length, *where, *more, "-q")

    return train


@pytest.fixture(scope="session")
def vaes(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The VAE of digits of a method, hardly trained; trained once."""
    found: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in found:
            path = tmp_path_factory.mktemp(f"vae-{method}") / "vae.safetensors"
            arguments = ("vae-train", "digits", *options(method), "--steps", 20, "-q", "-o", path)
            done = call_in(path.parent, *arguments)
            assert (done.code, done.out, done.err) == (0, b"", "")
            found[method] = path
        return found[method]

    return get


@pytest.fixture(scope="session")
def vector_vae(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of ``gaussian:3``, hardly trained."""
    path = tmp_path_factory.mktemp("vae-vectors") / "vae.safetensors"
    arguments = ("vae-train", "gaussian:3", *options(), "--steps", 5, "-q", "-o", path)
    done = call_in(path.parent, *arguments)
    assert (done.code, done.out, done.err) == (0, b"", "")
    return path


@pytest.fixture
def draw(call: Call, tmp_path: Path) -> Callable[..., Any]:
    """Draws samples and returns them, (N, ...)."""

    def draw(*arguments: object) -> Any:
        done = call("sample", *arguments, "--force", "-o", "drawn.h5")
        assert (done.code, done.out, done.err) == (0, b"", "")
        return read(tmp_path / "drawn.h5")["samples"]

    return draw


@pytest.fixture
def evaluate(call: Call) -> Callable[..., dict[str, Any]]:
    """What ``arcsm eval --json`` says."""

    def evaluate(*arguments: object) -> dict[str, Any]:
        quick = QUICK if any("ais" in str(argument) for argument in arguments) else FEW
        done = call("eval", *arguments, *quick, "--json")
        assert (done.code, done.err) == (0, "")
        return done.json

    return evaluate


def read(path: Path) -> dict[str, Any]:
    with SampleFile(path) as file:
        return {name: file.read(0, len(file), name) for name in file.names}


def contents(path: Path) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """The tensors' bytes, the settings of the model and the training of a checkpoint."""
    from arcsm_cli.io.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    tensors = {name: t.numpy().tobytes() for name, t in checkpoint.tensors.items()}
    return tensors, checkpoint.config, checkpoint.training


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


# Training


@pytest.mark.parametrize(
    ("data", "more", "expected"),
    [
        ("digits", "--channels 3,4", {"network": "conv", "channels": [3, 4]}),
        ("digits", "--network conv --channels 3", {"channels": [3], "decoder": "bernoulli"}),
        ("digits", "--decoder gaussian", {"decoder": "gaussian", "data_shift": [0.5]}),
        ("gaussian:3", "", {"decoder": "gaussian", "network": "mlp", "shape": [3]}),
        ("digits", "--resize 4 --network conv --channels 2,2", {"shape": [1, 4, 4]}),
        ("digits", "--schedule constant --warmup 0 --ema 0 --clip 1 --score-lr 1e-4", {}),
    ],
)
def test_every_kind_of_vae_is_trained_sampled_and_evaluated(
    data: str, more: str, expected: dict[str, Any], train: Any, call: Call, tmp_path: Path
) -> None:
    assert train(*more.split(), data=data).code == 0
    config = contents(tmp_path / "m.safetensors")[1]
    assert {key: config[key] for key in expected} == expected
    assert call("sample", "m.safetensors", "-n", 2, "-o", "s.h5").code == 0
    size = ("--resize", 4) if "--resize" in more else ()
    measured = ("--metric", "elbo,iwae,ais", "--limit", 2, *QUICK, *size)
    assert call("eval", "m.safetensors", data, *measured).code == 0


def test_colour_images_are_read_by_convolutions(call: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=pixels)
    more = ("--channels", "4,4", "--hidden", "8,8", "--steps", 2, "-o", "m.safetensors")
    assert call("vae-train", "colour.npz", *more).code == 0
    config = contents(tmp_path / "m.safetensors")[1]
    assert (config["network"], config["decoder"]) == ("conv", "gaussian")
    assert (config["latent_dim"], config["data_scale"]) == (32, [0.5])
    training = contents(tmp_path / "m.safetensors")[2]
    assert (training["settings"]["lr"], training["settings"]["score_lr"]) == (1e-4, 1e-4)


@pytest.mark.parametrize(
    ("more", "rates"),
    [("", (1e-3, 1e-3)), ("--lr 0.01", (0.01, 0.01)), ("--score-lr 0.01", (1e-3, 0.01))],
)
def test_the_estimators_rate_is_that_of_the_model_unless_given(
    more: str, rates: tuple[float, float], train: Any, tmp_path: Path
) -> None:
    train(*more.split())
    settings = contents(tmp_path / "m.safetensors")[2]["settings"]
    assert (settings["lr"], settings["score_lr"]) == rates


def test_epochs_are_passes_over_the_training_data(train: Any, tmp_path: Path) -> None:
    # A tenth of 200 examples is held out: two epochs of eleven whole batches of 16.
    assert train("--epochs", 2).code == 0
    assert contents(tmp_path / "m.safetensors")[2]["step"] == 22


def test_curves_and_pictures_are_logged_on_request(train: Any, tmp_path: Path) -> None:
    assert train("--log-dir", "runs").code == 0
    assert list((tmp_path / "runs").glob("events.*"))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("--method csm --particles 9", "--particles"),
        ("--method elbo --particles 9", "--particles"),
        ("--method elbo --score-lr 0.1", "--score-lr"),
        ("--method stein --score-lr 0.1", "--score-lr"),
        ("--method ssm --context-width 3", "--context-width"),
        ("--method elbo --score-hidden 8", "--score-hidden"),
        ("--method stein --particles 1", "--particles"),
        ("--method vae", "--method"),
        ("--network mlp --channels 4", "--channels"),
        ("--network conv --channels 4,4,4,4", "--resize"),
        ("--channels 4,0", "--channels"),
        ("--network cnn", "--network"),
        ("--latent-dim 0", "--latent-dim"),
        ("--latent-dim 2000", "latent-dim"),
        ("--hidden 8", "--hidden"),
        ("--hidden 8,8,8", "--hidden"),
        ("--hidden 8,,8", "--hidden"),
        ("--decoder poisson", "--decoder"),
        ("--lr nan", "--lr"),
        ("--lr 0", "--lr"),
        ("--score-lr -1", "--score-lr"),
        ("--epochs 1 --steps 3", "--epochs"),
        ("--epochs 0", "--epochs"),
        ("--batch-size 0", "--batch-size"),
        ("--clip -1", "--clip"),
        ("--ema 2", "--ema"),
        ("--resume -o -", "--resume"),
        ("--objective csm", "--objective"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_that_names_the_option(
    more: str, named: str, inside: Call, tmp_path: Path
) -> None:
    words = more.split()
    length = () if {"--epochs"} & set(words) else ("--steps", 2)
    where = () if "-o" in words else ("-o", "m.safetensors")
    done = inside("vae-train", "digits", *length, *where, *words, "-q")
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_no_probabilities_are_not_binarised(train: Any, tmp_path: Path) -> None:
    done = train("--decoder", "bernoulli", data="gaussian:3")
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert "--decoder bernoulli" in done.err
    assert "gaussian:3" in done.err


def test_convolutions_of_vectors_are_refused(train: Any) -> None:
    done = train("--network", "conv", data="gaussian:3")
    assert (done.code, done.err.count("\n"), "conv" in done.err) == (2, 1, True)


@pytest.mark.parametrize(
    ("method", "more", "named"),
    [
        ("ssm", "", "--method is ssm, but the run to resume has csm"),
        ("elbo", "", "--method is elbo, but the run to resume has csm"),
        ("csm", "--latent-dim 3", "--latent-dim"),
        ("csm", "--hidden 8,8", "--hidden"),
        ("csm", "--decoder gaussian", "--decoder"),
        ("csm", "--lr 0.5", "--lr"),
        ("csm", "--score-lr 0.5", "--score-lr"),
        ("csm", "--batch-size 9", "--batch-size"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    method: str, more: str, named: str, vaes: Any, inside: Call
) -> None:
    path = vaes("csm")
    before = path.read_bytes()
    arguments = ("vae-train", "digits", *options(method), "--steps", 20, "-o", path, "--resume")
    done = inside(*arguments, *more.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert path.read_bytes() == before


def test_a_vae_and_a_model_of_scores_do_not_resume_each_other(
    vaes: Any, digits_model: Path, call: Call
) -> None:
    for command, more, path in (
        ("train", ("--hidden", "12,12", "--limit", 200), vaes("csm")),
        ("vae-train", ("--hidden", "16,16"), digits_model),
    ):
        before = path.read_bytes()
        done = call(command, "digits", *more, "--steps", 20, "-o", path, "--resume")
        assert (done.code in (2, 65), done.out, done.err.count("\n")) == (True, b"", 1)
        assert "--resume" in done.err or path.name in done.err
        assert path.read_bytes() == before


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
def test_options_of_samplers_are_refused(
    more: str, vaes: Any, inside: Call, tmp_path: Path
) -> None:
    done = inside("sample", vaes("csm"), "-o", "s.h5", *more.split())
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
    file: str, more: str, vaes: Any, inside: Call, tmp_path: Path
) -> None:
    path: Any = vaes("csm")
    data = ["digits"]
    if file == "samples":
        inside("sample", path, "-n", 2, "-o", "s.h5")
        path, data = "s.h5", []
    done = inside("eval", path, *data, *more.split())
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
    held = read(tmp_path / "scored.h5")
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
    more: str, named: str, vaes: Any, inside: Call, tmp_path: Path
) -> None:
    done = inside("eval", vaes("csm"), "digits", "--limit", 2, *more.split())
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
    more: str, code: int, named: str, vaes: Any, inside: Call, tmp_path: Path
) -> None:
    done = inside("plot", vaes("csm"), *more.split(), "-o", "f.png")
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


# Commands for other models, hostile files, pipes


@pytest.fixture
def overflowing(vaes: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a sound file of a VAE whose weights are finite, but not what comes of them."""

    def write(method: str) -> Path:
        from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

        good = load_checkpoint(vaes(method))
        tensors = {k: t.sign() * 3e38 if t.dim() > 1 else t for k, t in good.tensors.items()}
        path = tmp_path / "huge.safetensors"
        changed = Checkpoint(good.kind, good.config, good.training, good.provenance, tensors)
        save_checkpoint(path, changed)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("method", ["elbo", "csm", "ssm"])
@pytest.mark.parametrize(
    "arguments",
    [
        "sample FILE -n 3 -o out.h5",
        "eval FILE digits --limit 3 -o out.h5",
        "eval FILE digits --limit 3 --metric ais --temperatures 4 -o out.h5",
        "plot FILE --data digits -n 3 -o out.png",
        "plot FILE --data digits --latent -n 3 -o out.png",
    ],
)
def test_weights_that_overflow_are_refused_or_make_no_difference(
    arguments: str, method: str, overflowing: Any, call: Call, tmp_path: Path
) -> None:
    path = overflowing(method)
    done = call(*(path.name if word == "FILE" else word for word in arguments.split()))
    if done.code == 0:  # sign functions have finite values
        assert done.err == ""
        return
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert path.name in done.err or "not numbers" in done.err
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def _changed(path: Path, target: Path, **changes: Any) -> None:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    values = json.loads(header["__metadata__"]["config"]) | changes
    header["__metadata__"]["config"] = json.dumps(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 3},
        {"method": "ssm"},
        {"method": "unknown"},
        {"hidden": [1 << 14, 1 << 14]},
        {"latent_dim": 10**400},
        {"shape": [1, 1 << 30, 1 << 30]},
        {"data_scale": [0.0]},
        {"particles": 0},
        {"network": "conv"},
        {"surprise": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "arguments",
    ["sample FILE -n 2 -o s.h5", "eval FILE digits", "plot FILE --data digits -o f.png"],
)
def test_a_vae_that_is_not_what_it_claims_is_refused(
    arguments: str, change: dict[str, Any], vaes: Any, inside: Call, tmp_path: Path
) -> None:
    _changed(vaes("csm"), tmp_path / "hostile", **change)
    done = inside(*("hostile" if word == "FILE" else word for word in arguments.split()))
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert done.err.startswith(f"arcsm {arguments.split()[0]}: hostile")
    assert done.memory < 256 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["hostile"]
