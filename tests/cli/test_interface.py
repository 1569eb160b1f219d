"""The Python interface: the numbers of the commands, without them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import arcsm_cli
from arcsm_cli.errors import DamagedInputError, OutputError, UsageError
from tests.cli.files import read

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
SMALL: dict[str, Any] = {"hidden": (6,), "score_hidden": (4, 4), "steps": 3, "limit": 60}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_importing_the_package_loads_nothing_that_computes(environment: dict[str, str]) -> None:
    code = "import sys, arcsm_cli; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_training_gives_the_weights_of_the_command(here: Path, call: Call) -> None:
    model = arcsm_cli.train("digits", resize=4, seed=3, **SMALL)
    model.save("a.safetensors")
    options = "--resize 4 --seed 3 --hidden 6 --score-hidden 4,4 --steps 3 --limit 60 -q"
    assert call("train", "digits", *options.split(), "-o", "b.safetensors").code == 0
    other = arcsm_cli.load("b.safetensors")
    weights = other.network.state_dict()
    assert all((value == weights[key]).all() for key, value in model.network.state_dict().items())
    with pytest.raises(OutputError):
        model.save("b.safetensors")


def test_samples_likelihoods_and_restorations_are_those_of_the_commands(
    here: Path, call: Call
) -> None:
    model = arcsm_cli.train("digits", resize=4, output="m.safetensors", **SMALL)
    assert call("sample", "m.safetensors", "-n", 5, "--seed", 2, "-o", "s.h5").code == 0
    samples = model.sample(5, seed=2)
    assert (samples.numpy() == read(here / "s.h5")).all()

    evaluation = ["eval", "m.safetensors", "s.h5", "--metric", "nll", "--seed", "4", "-o"]
    assert call(*evaluation, "clean.h5").code == 0
    assert call(*evaluation, "noisy.h5", "--no-perturb").code == 0
    for file, perturb in (("clean.h5", True), ("noisy.h5", False)):
        nll = read(here / file, "statistics/nll")
        np.testing.assert_allclose(-model.log_prob(samples, perturb=perturb, seed=4), nll, 1e-5)

    restoring = ["denoise", "m.safetensors", "s.h5", "--sigma", "0.5", "--seed", "4", "-o", "d.h5"]
    assert call(*restoring).code == 0
    restored = model.denoise(samples, 0.5, seed=4)
    np.testing.assert_allclose(restored, read(here / "d.h5"), atol=1e-6)


def test_the_score_of_the_last_variable_is_the_slope_of_the_density(here: Path) -> None:
    model = arcsm_cli.train("gaussian:3", standardize=True, order="reversed", **SMALL)
    x = model.sample(6).double()
    h = torch.zeros(3, dtype=torch.float64)
    h[0] = 1e-2  # the last in this order
    rise = model.log_prob(x + h, method="quadrature") - model.log_prob(x - h, method="quadrature")
    np.testing.assert_allclose(model.score(x)[:, 0], rise / (2 * h[0]), atol=2e-2)


def test_arrays_train_as_files_of_them_do(here: Path, call: Call) -> None:
    x = np.random.default_rng(0).random((60, 1, 4, 4)).astype(np.float32)
    labels = np.arange(60) % 2
    model = arcsm_cli.train(x, labels=labels, given="labels", **SMALL)
    assert model.sample(4, labels=[0, 1]).shape == (4, 1, 4, 4)
    assert (model.log_prob(x[:4], given=labels[:4]) != model.log_prob(x[:4], given=[1] * 4)).any()
    (entry,) = model.checkpoint.provenance
    assert set(entry["inputs"]) == {"array.h5:all"}
    assert model.checkpoint.training["examples"]["used"] == 54  # a tenth is held out
    assert not [word for word in entry["arguments"] if word.startswith("/")]
    with pytest.raises(UsageError, match="labels"):
        model.log_prob(x[:4])


def test_a_vae_trains_and_draws(here: Path) -> None:
    model = arcsm_cli.train(
        "digits", vae=True, method="elbo", hidden=(6, 6), latent_dim=2, steps=2, limit=40
    )
    assert model.sample(3).shape == (3, 1, 8, 8)
    with pytest.raises(UsageError, match="vae"):
        model.log_prob(model.sample(3))


def test_what_the_command_refuses_is_raised_and_leaves_nothing_behind(here: Path) -> None:
    with pytest.raises(UsageError, match="--steps"):
        arcsm_cli.train("digits", steps=-1)
    with pytest.raises(UsageError, match="--stepz"):
        arcsm_cli.train("digits", stepz=3)
    with pytest.raises(UsageError, match="array"):
        arcsm_cli.train(np.zeros(5))
    with pytest.raises(DamagedInputError):
        arcsm_cli.train(np.full((5, 2), np.nan))
    with pytest.raises(DamagedInputError, match=r"^array: "):  # not the file that the command reads
        arcsm_cli.train(np.zeros((5, 2)), given="labels")
    assert not list(here.iterdir())
