"""Typical statistics of training data: kept beside the checkpoint, used again, never trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation import ood_reference
from arcsm_cli.evaluation.model_metrics import evaluate
from arcsm_cli.evaluation.ood import score
from arcsm_cli.evaluation.ood_reference import (
    Request,
    distances_from,
    find_reference,
    training_data,
)
from arcsm_cli.evaluation.overlap import Trained, training_inputs
from arcsm_cli.io.reference_file import (
    Reference,
    Typical,
    load_reference_file,
    reference_path,
    save_reference,
)
from tests.io.references import DIGEST, GOOD, SPREAD, encode, write


def chain(*arguments: str, inputs: dict[str, str] | None = None) -> list[dict[str, Any]]:
    inputs = {"gaussian:3": "x"} if inputs is None else inputs
    return [{"command": "train", "arguments": list(arguments), "inputs": inputs}]


def trained(provenance: list[dict[str, Any]]) -> Trained:
    return Trained(None, 0, "", training_inputs(provenance))


class Finder:
    """Asks for references of one small model, and counts how often one is computed."""

    def __init__(self, model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.folder = model, folder
        self.file = folder / "m.safetensors"
        self.file.write_bytes(b"a checkpoint")
        self.kept = folder / "m.safetensors.reference"
        self.scored: list[list[str]] = []

        def counting(*arguments: Any, **options: Any) -> Any:
            self.scored.append(options["metrics"])
            return evaluate(*arguments, **options)

        monkeypatch.setattr(ood_reference, "evaluate", counting)

    def __call__(self, *bases: str, **changes: Any) -> Reference:
        wanted = {
            "model_file": str(self.file),
            "checkpoint": DIGEST,
            "trained": trained(chain()),
            "data": None,
            "limit": None,
            "options": DataOptions(),
            "batch_size": 400,
        } | changes
        bar = SimpleNamespace(update=lambda steps: None)
        return find_reference(
            self.model, Request(**wanted), list(bases or ("csm",)), lambda total: nullcontext(bar)
        )


@pytest.fixture
def find(
    random_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Finder:
    return Finder(random_model().float(), tmp_path, monkeypatch)


def test_medians_and_deviations_are_those_of_the_training_data(find: Finder) -> None:
    from arcsm_cli.data.spec import load_data

    found = find()
    data = load_data("gaussian:3", DataOptions(limit=1000), default_split="train")
    batches = score(find.model, data, statistics=["csm", "score-sum"], seed=0)
    figures = [batch.figures for batch in batches]
    for name in ("csm", "score-sum"):
        values = torch.cat([figure[name] for figure in figures]).numpy()
        assert found.statistics[name].median == pytest.approx(np.median(values), rel=1e-5)
        mad = np.median(np.abs(values - np.median(values)))
        assert found.statistics[name].mad == pytest.approx(mad, rel=1e-4)
    assert (found.data, found.count, found.digest) == ("gaussian:3:train", 1000, data.digest)


def test_a_reference_is_computed_once(find: Finder) -> None:
    assert find() == find() == load_reference_file(find.kept)
    assert find.scored == [["score-sum", "score-norm", "ratio", "csm", "multiscale"]]


def test_the_spread_is_that_of_the_training_data(find: Finder) -> None:
    from arcsm_cli.data.spec import load_data

    found = find("multiscale")
    data = load_data("gaussian:3", DataOptions(limit=1000), default_split="train")
    batches = evaluate(find.model, data, metrics=["multiscale"], seed=0)
    vectors = torch.cat([batch.figures["multiscale"] for batch in batches]).numpy()
    assert found.multiscale is not None
    assert len(found.multiscale.levels) == 10
    assert np.allclose(found.multiscale.mean, vectors.mean(0), rtol=1e-5)
    scale = vectors.std(0)
    apart = (np.array(found.multiscale.covariance) - np.cov(vectors.T)) / np.outer(scale, scale)
    assert np.abs(apart).max() < 1e-3
    both = ("multiscale", "nearest")
    distance, nearest = (distances_from(found, both)[name](vectors) for name in both)
    assert 1 < distance.mean() <= 20.1  # 20 figures, many determined by others
    kept = load_reference_file(find.kept)
    again = distances_from(kept, both)
    assert np.array_equal(again["multiscale"](vectors), distance)
    assert np.array_equal(again["nearest"](vectors), nearest)


def test_what_an_earlier_version_kept_is_completed(find: Finder) -> None:
    first = find(limit=20)
    old = {
        "checkpoint": first.checkpoint,
        "data": first.data,
        "digest": first.digest,
        "limit": first.limit,
        "count": first.count,
        "statistics": {"csm": {"median": 1.0, "mad": 0.5}},
    }
    write(find.kept, old, format_version="1")
    assert find("csm").statistics == {"csm": Typical(1.0, 0.5)}
    more = find("multiscale")
    assert find.scored[1:] == [["score-sum", "score-norm", "ratio", "multiscale"]]
    assert more.statistics["csm"] == Typical(1.0, 0.5)
    assert more.multiscale == first.multiscale
    assert load_reference_file(find.kept) == more


@pytest.mark.parametrize("same_levels", [False, True])
def test_a_spread_of_other_levels_or_figures_is_computed_anew(
    same_levels: bool, find: Finder
) -> None:
    first = find("multiscale", limit=20)
    assert first.multiscale is not None
    other = replace(SPREAD, levels=first.multiscale.levels) if same_levels else SPREAD
    save_reference(str(find.kept), replace(first, multiscale=other, vectors=None))
    assert find("csm").multiscale == other
    assert find("multiscale") == first


def test_what_is_kept_serves_without_the_data(find: Finder) -> None:
    first = find()
    assert find(trained=trained([])) == first


def test_the_likelihood_is_added_when_it_is_asked_for(find: Finder) -> None:
    first = find(limit=20)
    more = find("nll", limit=20)
    assert find.scored[1:] == [["nll"]]
    assert first.statistics.items() < more.statistics.items()
    assert find("nll", "csm") == more


@pytest.mark.parametrize(
    "changes",
    [{"checkpoint": "2" * 64}, {"limit": 50}, {"data": "gaussian:3:valid"}],
    ids=["other model", "other limit", "other data"],
)
def test_a_stale_reference_is_computed_anew_and_replaced(
    changes: dict[str, Any], find: Finder
) -> None:
    first, second = find(), find(**changes)
    assert len(find.scored) == 2
    assert second != first
    assert load_reference_file(find.kept) == second


def test_the_same_data_named_explicitly_are_not_scored_again(find: Finder) -> None:
    assert find() == find(data="gaussian:3") == find(data="gaussian:3:train", limit=1000)
    assert len(find.scored) == 1


def test_a_model_from_a_pipe_keeps_nothing(find: Finder, tmp_path: Path) -> None:
    assert find(model_file="-").count == 1000
    assert find.file in tmp_path.iterdir()
    assert not find.kept.exists()


def test_a_folder_that_cannot_be_written_to_is_warned_of(
    find: Finder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert find().count == 1000
    assert "not kept" in caplog.text
    assert not find.kept.exists()


def test_fewer_training_data_than_asked_for_are_counted(find: Finder, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).normal(size=(7, 3)), delimiter=",")
    found = find(data=str(tmp_path / "x.csv"))
    assert (found.limit, found.count) == (1000, 7)


@pytest.mark.parametrize(
    ("provenance", "data"),
    [
        (chain("gaussian:3"), "gaussian:3"),
        ([{"command": "data"}, *chain("-q", inputs={"x.h5": "d"}), {"command": "x"}], "x.h5"),
        (chain("--config", "c.toml", inputs={"c.toml": "d", "mnist": "e"}), "mnist"),
        (chain("--config=c.toml", inputs={"c.toml": "d", "mnist": "e"}), "mnist"),
        ([*chain("rings", inputs={"rings": "d"}), *chain()], "gaussian:3"),
    ],
)
def test_the_last_training_tells_its_data(provenance: list[dict[str, Any]], data: str) -> None:
    assert training_data(trained(provenance))[0] == data


@pytest.mark.parametrize(
    "provenance",
    [
        [],
        [{"command": "sample"}],
        [{"command": "train"}],
        [{"command": "train", "inputs": ["a"], "arguments": 3}],
        chain("-", inputs={"-": "d"}),
        chain("a", inputs={"a": "d", "b": "e"}),
        chain(inputs={}),
    ],
)
def test_where_nothing_is_told_the_data_are_asked_for(
    provenance: list[dict[str, Any]], find: Finder
) -> None:
    with pytest.raises(UsageError, match="--reference DATA"):
        find(trained=trained(provenance))


def test_training_data_that_are_not_there_are_asked_for(find: Finder) -> None:
    with pytest.raises(UsageError, match=r"gone\.h5.*--reference DATA"):
        find(trained=trained(chain(inputs={"gone.h5": "d"})))


def test_training_data_that_changed_are_asked_for(find: Finder, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2,3\n4,5,6\n")
    with pytest.raises(UsageError, match=r"has changed since.*--reference DATA"):
        find(trained=trained(chain(inputs={str(tmp_path / "x.csv"): "d"})))


def test_training_data_of_another_shape_are_asked_for(find: Finder) -> None:
    with pytest.raises(UsageError, match=r"rings.*--reference DATA"):
        find(trained=trained(chain(inputs={"rings": "d"})))


@pytest.mark.parametrize("spec", ["pipe", "pipe:train", "pipe::x", "-:train", "-::x"])
def test_a_checkpoint_cannot_make_the_program_wait_for_a_pipe(
    find: Finder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"neither a file nor a folder|standard input"):
        find(trained=trained(chain(inputs={spec: "d"})))


def test_named_reference_data_of_another_shape_are_refused(find: Finder) -> None:
    with pytest.raises(DamagedInputError, match="rings"):
        find(data="rings")


def test_neighbours_are_found_in_what_an_earlier_version_kept_once_asked_for(find: Finder) -> None:
    first = find("multiscale", limit=20)
    save_reference(str(find.kept), replace(first, vectors=None))
    assert find("multiscale").vectors is None
    vectors = find("nearest").vectors
    assert vectors is not None
    assert np.array_equal(vectors, first.vectors)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"someone's notes",
        b"\x80\x04pickled",
        encode({"arcsm_format": "checkpoint"}),
        encode({"arcsm_format": "reference", "format_version": "4"}),
        encode({"arcsm_format": "reference", "format_version": "3", "reference": "[]"}),
        encode(
            {"arcsm_format": "reference", "format_version": "3", "reference": json.dumps(GOOD)},
            x={"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        ),
        (1 << 62).to_bytes(8, "little") + b"{",
        encode({"arcsm_format": "reference", "reference": "x" * (2 << 20)}),
    ],
    ids=lambda content: str(content[:50]),
)
def test_other_files_are_refused_and_left_alone(content: bytes, find: Finder) -> None:
    find.kept.write_bytes(content)
    with pytest.raises(DamagedInputError, match=r"m\.safetensors\.reference"):
        find()
    assert find.kept.read_bytes() == content


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting(
    make: Callable[[Path], None], find: Finder
) -> None:
    make(find.kept)
    with pytest.raises(DamagedInputError, match="regular file"):
        find()


def test_the_file_lies_beside_the_model() -> None:
    assert reference_path("a/m.safetensors") == "a/m.safetensors.reference"
