"""Conditional models on the command line: what they are given, and what they refuse."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from arcsm_cli.io.samples import SampleFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.preloaded import Done

    Call = Callable[..., Done]

TABLE = "a,kind,age\n" + "".join(
    f"{i % 7}.5,{'red' if i % 3 else 'blue'},{20 + i % 5}\n" for i in range(80)
)
SMALL = ("--hidden", 6, "--score-hidden", 4, "--steps", 2, "-q")


@pytest.fixture(scope="module")
def folder(call_in: "Call", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits given labels, one of a table given two columns, and one given nothing."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "t.csv").write_text(TABLE)
    for arguments in (
        ("digits", "--resize", 4, "--limit", 200, "--given", "labels", "-o", "label.safetensors"),
        ("t.csv", "--given", "kind,age", "--standardize", "-o", "table.safetensors"),
        ("gaussian:2", "--limit", 400, "-o", "plain.safetensors"),
    ):
        done = call_in(folder, "train", *arguments, *SMALL)
        assert (done.code, done.err) == (0, "")
    return folder


def test_samples_by_label_are_rows_of_the_grid_and_carry_their_labels(
    folder: Path, call: "Call", tmp_path: Path
) -> None:
    model = folder / "label.safetensors"
    done = call("sample", model, "--label", "7,3", "-n", 6, "-o", "s.h5", "--png", "s.png", "-q")
    assert (done.code, done.err) == (0, "")
    with SampleFile(tmp_path / "s.h5") as file:
        assert file.read(0, 6, "labels").tolist() == [7, 7, 7, 3, 3, 3]
    with Image.open(tmp_path / "s.png") as grid:
        assert grid.width / grid.height == pytest.approx(3 / 2, rel=0.1)


def test_labels_are_drawn_as_often_as_in_training_and_that_is_said(
    folder: Path, call: "Call", tmp_path: Path
) -> None:
    model = folder / "label.safetensors"
    assert "--label" in call("sample", model, "-n", 9, "-o", "whole.h5").err
    assert call("sample", model, "-n", 9, "--shard", "1/3", "-o", "part.h5", "-q").code == 0
    found = []
    for name in ("whole.h5", "part.h5"):
        with SampleFile(tmp_path / name) as file:
            found.append(file.read(0, 9, "labels"))
    assert len(set(found[0])) > 1
    assert np.array_equal(found[0][3:6], found[1])


def test_a_row_of_a_file_is_a_sample_that_the_model_can_be_measured_on(
    folder: Path, call: "Call", tmp_path: Path
) -> None:
    model = folder / "table.safetensors"
    (tmp_path / "rows.csv").write_text("age,kind\n22,blue\n24,red\n")
    assert call("sample", model, "--given", "rows.csv", "-o", "s.h5", "-q").code == 0
    rows = tmp_path / "rows.csv"
    assert call("sample", model, "--given", "-", "-o", "s.csv", "-q", stdin=rows).code == 0
    with SampleFile(tmp_path / "s.h5") as file:
        assert file.read(0, 2, "statistics/age").tolist() == [22, 24]
    figures = [
        call("eval", model, name, "--no-perturb", "--json").json["metrics"]["nll"]
        for name in ("s.h5", "s.csv")
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sample label.safetensors --label 12 -o x.h5", "the model knows 0, 1, 2"),
        ("sample label.safetensors --label 1,2,3 -n 7 -o x.h5", "as many for each of 3 labels"),
        ("sample plain.safetensors --label 1 -o x.h5", "given nothing"),
        ("sample table.safetensors -o x.h5", "given kind, age: say what is given"),
        ("sample table.safetensors --label red -o x.h5", "--given FILE"),
        ("eval label.safetensors noise.npz --layout NHW", "has no labels"),
        ("eval table.safetensors rows.csv", "no such column"),
        ("eval table.safetensors t.csv --metric accuracy", "models given labels alone"),
        ("denoise label.safetensors noise.npz --layout NHW --sigma 0.5 -o x.h5", "has no labels"),
        ("train swissroll --given labels -o x.safetensors", "has no labels"),
        ("train t.csv --given size -o x.safetensors", "no such column"),
        ("train t.csv --given age,kind --init table.safetensors -o x.safetensors", "--init"),
        ("plot table.safetensors --density -o x.png", "given kind, age"),
    ],
)
def test_what_does_not_say_what_is_given_is_refused_in_one_line(
    arguments: str, said: str, folder: Path, call_in: "Call"
) -> None:
    np.savez(folder / "noise.npz", images=np.random.default_rng(0).random((5, 4, 4)))
    (folder / "rows.csv").write_text("a,b\n1,2\n")
    done = call_in(folder, *arguments.split())
    assert done.code in (2, 65)
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not [*folder.glob("x.*")]


def test_a_run_resumes_and_starts_only_from_one_that_was_given_the_same(
    folder: Path, call: "Call", tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    run = ("train", "t.csv", "--standardize", *SMALL)
    assert call(*run, "--given", "kind", "-o", "m.safetensors").code == 0
    other = call(*run, "--given", "labels=kind", "-o", "m.safetensors", "--resume", "--steps", 3)
    assert (other.code, other.err) == (0, "")  # another way to say the same
    refused = call(*run, "--given", "kind,age", "-o", "m.safetensors", "--resume")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    begun = call(*run, "--given", "kind", "--init", "m.safetensors", "-o", "n.safetensors")
    assert (begun.code, begun.err) == (0, "")
