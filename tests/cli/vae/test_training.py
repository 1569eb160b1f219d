"""``arcsm vae-train`` as a real program: every kind, its options, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.cli.files import contents
from tests.cli.vae.vaes import QUICK, options

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]

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
    more: str, named: str, call: Call, tmp_path: Path
) -> None:
    words = more.split()
    length = () if {"--epochs"} & set(words) else ("--steps", 2)
    where = () if "-o" in words else ("-o", "m.safetensors")
    done = call("vae-train", "digits", *length, *where, *words, "-q")
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
    method: str, more: str, named: str, vaes: Any, call: Call
) -> None:
    path = vaes("csm")
    before = path.read_bytes()
    arguments = ("vae-train", "digits", *options(method), "--steps", 20, "-o", path, "--resume")
    done = call(*arguments, *more.split())
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
