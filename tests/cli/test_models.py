"""Models that come with the program: ``arcsm models``, ``arcsm:NAME``, and what is declared."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arcsm_cli import pretrained
from arcsm_cli.io.checkpoint import load_checkpoint
from arcsm_cli.io.samples import SampleFile

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]

DECLARED = """summary = "Little"
data = "gaussian:2"
source = "drawn"
licence = "none"
sha256 = "{digest}"
recipe = ["arcsm train gaussian:2 -o little.safetensors"]
[[measured]]
command = "arcsm eval arcsm:little gaussian:2"
figures = {{ nll = 1.5 }}
"""
LITTLE = "--hidden 4 --score-hidden 4,4 --context-width 2 --limit 40 --batch-size 16 --steps 2 -q"


@pytest.fixture
def little(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The checkpoint of ``arcsm:little``, the only model that comes with the program here."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    path = folder / "little.safetensors"
    done = call("train", "gaussian:2", *LITTLE.split(), "-o", path)
    assert done.code == 0, done.err
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "little.toml").write_text(DECLARED.format(digest=digest))
    monkeypatch.setattr(pretrained, "_FOLDER", folder)
    return path


@pytest.mark.parametrize("name", pretrained.names())
def test_what_is_declared_of_a_model_is_true_of_its_file(name: str) -> None:
    told = pretrained.declaration(f"arcsm:{name}")
    path = pretrained.checkpoint_of(f"arcsm:{name}")  # compares the digest
    assert path.stat().st_size < 4e6
    chain = load_checkpoint(path).provenance
    made = [shlex.join(["arcsm", step["command"], *step["arguments"]]) for step in chain]
    assert made == [shlex.join(shlex.split(command)) for command in told.recipe]
    assert all({"time", "host"}.isdisjoint(step) for step in chain)
    assert not [word for step in chain for word in step["arguments"] if word.startswith(("/", "~"))]
    assert told.figures
    assert all(f"arcsm:{name}" in entry["command"] for entry in told.measured)
    assert told.source
    assert told.licence


@pytest.mark.parametrize(
    "arguments",
    [
        "sample MODEL -n 3 -o out.h5",
        "eval MODEL gaussian:2 --limit 5",
        "info MODEL",
        "plot MODEL",
        "denoise MODEL gaussian:2 --limit 5 --corrupt gaussian:0.5 -o out.h5",
        "ood-score MODEL gaussian:2 --limit 5 --statistic score-norm -o out.h5",
        "distill MODEL --steps 1 --examples 4 --contexts 30 -o out.safetensors",
        f"train gaussian:2 {LITTLE} --init MODEL -o out.safetensors",
        "export MODEL -o folder",
    ],
)
def test_every_command_that_takes_a_model_takes_one_that_comes_with_the_program(
    arguments: str, little: Path, call: Call
) -> None:
    done = call(*arguments.replace("MODEL", "arcsm:little").split(), "-q")
    assert (done.code, done.err) == (0, "")


def test_results_say_by_name_and_digest_which_model_made_them(
    little: Path, call: Call, tmp_path: Path
) -> None:
    assert call("sample", "arcsm:little", "-n", 2, "-o", "s.h5").code == 0
    with SampleFile(tmp_path / "s.h5") as samples:
        digest = hashlib.sha256(little.read_bytes()).hexdigest()
        assert samples.provenance[-1]["inputs"] == {"arcsm:little": digest}


def test_a_file_that_is_not_the_declared_one_is_refused(little: Path, call: Call) -> None:
    little.write_bytes(little.read_bytes()[:-1] + b"\1")
    done = call("info", "arcsm:little")
    assert (done.code, done.out) == (65, b"")
    assert "SHA-256" in done.err


def test_an_unknown_name_is_answered_with_those_there_are(little: Path, call: Call) -> None:
    done = call("sample", "arcsm:large", "-n", 2, "-o", "s.h5")
    assert (done.code, done.err.count("\n")) == (66, 1)
    assert "little" in done.err


def test_a_file_called_like_a_model_is_reached_by_its_path(
    little: Path, call: Call, tmp_path: Path
) -> None:
    shutil.copy(little, tmp_path / "arcsm:own")
    assert call("info", "./arcsm:own").code == 0
    assert call("info", "arcsm:own").code == 66


def test_models_tells_of_all_and_of_each(little: Path, call: Call) -> None:
    (row,) = json.loads(call("models", "--json").out)["models"]
    assert (row["name"], row["kind"], row["metrics"]) == ("arcsm:little", "ar-csm", {"nll": 1.5})
    assert b"arcsm:little" in call("models").out
    for name in ("little", "arcsm:little"):
        told: dict[str, Any] = json.loads(call("models", name, "--json").out)
        assert told["measured"][0]["figures"] == {"nll": 1.5}
        assert told["shape"] == [2]
    assert call("models", "large").code == 66


def test_a_folder_that_export_wrote_is_a_model(little: Path, call: Call, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_bytes(call("eval", "arcsm:little", "gaussian:2", "--limit", 9, "--json").out)
    made = call("export", little, "-o", "hub", "--figures", "figures.json", "--license", "mit")
    assert (made.code, made.err) == (0, "")
    for model, out in (("hub", "a.npz"), (little, "b.npz")):
        assert call("sample", model, "-n", 3, "-o", out).code == 0
    import numpy as np

    a, b = (np.load(tmp_path / name)["samples"] for name in ("a.npz", "b.npz"))
    assert (a == b).all()
    front, card = (tmp_path / "hub" / "README.md").read_text()[4:].split("---\n", 1)
    told = dict(line.split(": ", 1) for line in front.splitlines())
    nll = json.loads(figures.read_text())["metrics"]["nll"]
    (results,) = json.loads(told["model-index"])[0]["results"]
    assert {"type": "nll", "name": "nll", "value": nll} in results["metrics"]
    assert json.loads(told["license"]) == "mit"
    assert "arcsm train gaussian:2" in card
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["config"] == load_checkpoint(little).config
    assert str(tmp_path) not in card


def test_a_folder_with_files_of_others_is_never_replaced(
    little: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    assert call("export", little, "-o", "hub").code == 0  # it was empty
    assert call("export", little, "-o", "hub").code == 73
    assert call("export", little, "-o", "hub", "--force").code == 0
    (tmp_path / "hub" / "notes.txt").write_text("mine")
    assert call("export", little, "-o", "hub", "--force").code == 73
    assert (tmp_path / "hub" / "notes.txt").read_text() == "mine"


def test_an_exported_checkpoint_tells_nothing_of_the_machine(
    little: Path, call: Call, tmp_path: Path
) -> None:
    assert call("export", little, "--to", "checkpoint", "-o", tmp_path / "a.safetensors").code == 0
    assert call("export", little, "--to", "checkpoint", "-o", "b.safetensors").code == 0
    a, b = (load_checkpoint(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert [step["command"] for step in a.provenance] == ["train", "export"]
    assert str(tmp_path) not in json.dumps(a.provenance)
    assert all({"time", "host"}.isdisjoint(step) for step in a.provenance)
    assert (a.config, a.training) == (b.config, b.training)
