"""VAEs trained once, and commands on them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.files import read
from tests.cli.vae.vaes import FEW, QUICK, options

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]


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
        return read(tmp_path / "drawn.h5")

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
