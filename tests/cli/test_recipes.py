"""The recipes of docs/recipes: their options are accepted together, and the small ones train."""

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes"
RUNS = [
    "-".join(parts)
    for parts in itertools.product(
        ("mnist", "cifar10", "celeba"), ("made", "pixelcnn"), ("csm", "mle"), ("", "small")
    )
]
NAMES = [*(name.rstrip("-") for name in RUNS), "mnist-transformer-csm"]


def recipe(name: str) -> tuple[Path, dict[str, Any]]:
    path = RECIPES / f"{name}.toml"
    return path, tomllib.loads(path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_of_the_data_network_and_objective_that_name_it(name: str) -> None:
    data, context, objective = name.split("-")[:3]
    _, options = recipe(name)
    found = [options[key] for key in ("data", "context", "objective")]
    assert found == [data, context, objective]


@pytest.mark.parametrize("name", NAMES)
def test_the_options_of_a_recipe_go_together(name: str, call: Call, tmp_path: Path) -> None:
    # Data are looked for once the options are found sound.
    path, _ = recipe(name)
    done = call("train", "--config", path, "--data-dir", tmp_path, "-o", "m.safetensors")
    assert done.code == 69
    assert "--download" in done.err


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("small")])
def test_a_small_recipe_trains(name: str, call: Call, tmp_path: Path) -> None:
    path, options = recipe(name)
    channels = 1 if options["data"] == "mnist" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (24, channels, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels)
    sizes = ["--hidden", "16,16"] if options["context"] == "made" else ["--filters", "4"]
    if options["data"] == "celeba":
        sizes += ["--resize", "8"]
    done = call(
        "train", "data.npz", "--config", path, *sizes, "--steps", 1, "-q", "-o", "m.safetensors"
    )
    assert (done.code, done.out, done.err) == (0, b"", "")


@pytest.mark.parametrize("name", ["mnist-vae-csm", "celeba-vae-csm"])
def test_the_options_of_a_recipe_for_a_vae_go_together(
    name: str, call: Call, tmp_path: Path
) -> None:
    path, options = recipe(name)
    assert name.split("-")[::2] == [options["data"], options["method"]]
    done = call("vae-train", "--config", path, "--data-dir", tmp_path, "-o", "m.safetensors")
    assert done.code == 69
    assert "--download" in done.err
