"""``arcsm plot`` as a real program: every kind of file, every refusal."""

import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from arcsm_cli.app import main

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small file of each kind."""
    import torch

    from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
    from arcsm_cli.io.samples import SampleWriter
    from arcsm_cli.models.arcsm import ARCSM
    from arcsm_cli.models.config import ModelConfig

    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    images, vectors = random.random((20, 1, 8, 8)), random.normal(size=(60, 7))
    with SampleWriter(folder / "images.h5", (1, 8, 8), []) as writer:
        writer.append(images)
    with SampleWriter(folder / "restored.h5", (1, 8, 8), []) as writer:
        writer.append(images, clean=images, corrupted=images)
    for dimensions in (1, 2, 7):
        with SampleWriter(folder / f"{dimensions}d.h5", (dimensions,), []) as writer:
            writer.append(vectors[:, :dimensions])
    with SampleWriter(folder / "empty.h5", (2,), []):
        pass
    with SampleWriter(folder / "odd.h5", (3, 4), []) as writer:
        writer.append(np.zeros((2, 3, 4)))
    history = {"step": [1, 2, 3], "loss": [3, 2, 1], "valid_loss": [3, 2, 1], "lr": [1, 1, 0]}
    trainings = {"": {"history": history}, "-untrained": {}, "-damaged": {"history": {"step": [1]}}}
    for name, shape in {"1d": (1,), "2d": (2,), "7d": (7,), "image": (1, 8, 8)}.items():
        torch.manual_seed(0)
        config = ModelConfig(
            shape, (2.0, 0.5), hidden=(4,), score_hidden=(4,), context_width=2, annealing="joint"
        )
        tensors = {key: value.detach() for key, value in ARCSM(config).named_parameters()}
        for suffix, training in trainings.items():
            saved = Checkpoint("ar-csm", config.to_dict(), training, [], tensors)
            save_checkpoint(folder / f"{name}{suffix}.safetensors", saved)
    foreign = Checkpoint("ar-csm", config.to_dict() | {"x": 1}, {}, [], tensors)
    save_checkpoint(folder / "foreign.safetensors", foreign)
    (folder / "text.txt").write_text("no figure is in here")
    (folder / "cut.h5").write_bytes((folder / "2d.h5").read_bytes()[:900])
    return folder


@pytest.fixture
def plot(run_arcsm: RunArcsm, files: Path) -> RunArcsm:
    """Runs ``arcsm plot`` on a file of the folder `files`, into an empty working folder."""

    def run(*arguments: str, **options: Any) -> Any:
        placed = [files / a if a.endswith((".h5", ".safetensors")) else a for a in arguments]
        return run_arcsm("plot", *placed, **options)

    return run


FIGURES = {
    "grid": ["images.h5"],
    "triplets": ["restored.h5"],
    "histogram": ["1d.h5"],
    "scatter over density": ["2d.h5", "--model", "2d.safetensors"],
    "matrix": ["7d.h5"],
    "curves": ["image.safetensors"],
    "curve of density": ["1d.safetensors", "--density"],
}


@pytest.mark.parametrize("arguments", FIGURES.values(), ids=FIGURES)
def test_every_kind_of_file_has_a_figure(
    arguments: list[str], plot: RunArcsm, tmp_path: Path
) -> None:
    done = plot(*arguments, "-o", "figure.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "figure.png").stat().st_size < 300_000
    with Image.open(tmp_path / "figure.png") as image:
        image.load()
        assert min(image.size) >= 480
        grey = np.asarray(image.convert("L"))
        assert grey.min() < 100 < 200 < grey.max()


@pytest.mark.slow
def test_equal_content_gives_equal_bytes(plot: RunArcsm, files: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.h5").write_bytes((files / "2d.h5").read_bytes())
    first = plot("2d.h5", "-o", "-", text=False).stdout
    second = plot("-", "-o", "-", text=False, stdin=(tmp_path / "copy.h5").open("rb")).stdout
    assert first == second != b""


def test_the_figure_lies_beside_the_file_by_default(
    run_arcsm: RunArcsm, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "some.h5").write_bytes((files / "images.h5").read_bytes())
    assert run_arcsm("plot", "some.h5").returncode == 0
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_may_be_a_pdf(plot: RunArcsm, tmp_path: Path) -> None:
    plot("restored.h5", "-o", "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_may_be_an_svg(plot: RunArcsm, tmp_path: Path) -> None:
    plot("2d.h5", "-o", "figure.svg")
    assert ElementTree.parse(tmp_path / "figure.svg").getroot().tag.endswith("svg")


def test_count_and_columns_decide_the_grid(plot: RunArcsm) -> None:
    done = plot("images.h5", "-n", "12", "--columns", "6", "-o", "-", text=False)
    with Image.open(BytesIO(done.stdout)) as image:
        assert image.width / image.height == pytest.approx(3, abs=0.1)


def test_versions_of_images_are_drawn_with_their_names(plot: RunArcsm) -> None:
    plain, named = (plot(name, "-n", "5", "-o", "-", text=False).stdout
                    for name in ("images.h5", "restored.h5"))  # fmt: skip
    sizes = [Image.open(BytesIO(content)).size for content in (plain, named)]
    assert sizes[0] != sizes[1]


def test_a_pipeline_ends_in_a_figure(pipeline: Callable[..., list[Any]], files: Path) -> None:
    drawing = ("sample", files / "2d.safetensors", "-n", 20, "-o", "-")
    dones = pipeline(drawing, ("plot", "-", "-o", "-"))
    assert [(done.code, done.err) for done in dones] == [(0, "")] * 2
    with Image.open(BytesIO(dones[-1].out)) as image:
        assert image.width == 900


def test_the_model_may_come_through_the_pipe(plot: RunArcsm, files: Path) -> None:
    with (files / "1d.safetensors").open("rb") as model:
        done = plot("1d.h5", "--model", "-", "-o", "-", text=False, stdin=model)
    assert (done.returncode, done.stdout[:4]) == (0, b"\x89PNG")


def test_an_existing_figure_is_kept(plot: RunArcsm, tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_text("mine")
    assert plot("images.h5", "-o", "figure.png").returncode == 73
    assert (tmp_path / "figure.png").read_text() == "mine"


def test_force_replaces_a_figure(plot: RunArcsm, tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_text("mine")
    assert plot("images.h5", "-o", "figure.png", "--force").returncode == 0
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


REFUSALS = {
    "missing": (66, ["none.h5"]),
    "neither checkpoint nor samples": (65, ["text.txt"]),
    "truncated": (65, ["cut.h5"]),
    "no samples": (65, ["empty.h5"]),
    "neither vectors nor images": (65, ["odd.h5"]),
    "no history": (65, ["2d-untrained.safetensors"]),
    "damaged history": (65, ["2d-damaged.safetensors"]),
    "model of another shape": (65, ["2d.h5", "--model", "image.safetensors"]),
    "model that is none": (65, ["2d.h5", "--model", "2d.h5"]),
    "unusable model": (65, ["foreign.safetensors", "--density"]),
    "missing model": (66, ["2d.h5", "--model", "none.safetensors"]),
    "density under images": (2, ["images.h5", "--model", "image.safetensors"]),
    "density under many variables": (2, ["7d.h5", "--model", "7d.safetensors"]),
    "density of images": (2, ["image.safetensors", "--density"]),
    "density of many variables": (2, ["7d.safetensors", "--density"]),
    "density of samples": (2, ["2d.h5", "--density"]),
    "model of a checkpoint": (2, ["2d.safetensors", "--model", "2d.safetensors"]),
    "count of a checkpoint": (2, ["2d.safetensors", "--count", "3"]),
    "columns of vectors": (2, ["2d.h5", "--columns", "3"]),
    "scale without density": (2, ["2d.h5", "--scale", "nats"]),
    "slices without density": (2, ["2d.safetensors", "--slices", "0"]),
    "slices of one variable": (2, ["1d.safetensors", "--density", "--slices", "0"]),
    "slices that are no numbers": (2, ["2d.safetensors", "--density", "--slices", "0,x"]),
    "slices that are infinite": (2, ["2d.safetensors", "--density", "--slices", "inf"]),
    "too many slices": (2, ["2d.safetensors", "--density", "--slices", "1,2,3,4,5,6"]),
    "no such device": (2, ["2d.safetensors", "--density", "--device", "abacus"]),
}


@pytest.mark.parametrize(("code", "arguments"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    code: int,
    arguments: list[str],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    assert main(["plot", *arguments, "-o", str(tmp_path / "figure.png")]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("arcsm plot: ")
    assert code == 2 or arguments[-1] in err or arguments[0] in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["-"], ["-", "--model", "-", "-o", "-"]], ids=str)
def test_standard_input_has_no_name_and_one_reader(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", *arguments]) == 2
    assert "standard input" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.png.gz"])
def test_the_ending_must_be_of_a_known_format(
    name: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(files / "2d.h5"), "-o", name]) == 2
    assert ".png, .pdf or .svg" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_is_gone_ends_the_program_quietly(plot: RunArcsm) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = plot("images.h5", "-o", "-", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images.h5", pytest.param("2d.h5", marks=pytest.mark.slow)])
def test_samples_are_drawn_without_torch(name: str, files: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from arcsm_cli.app import main; main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plot",
         files / name, "-o", tmp_path / "figure.png"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
