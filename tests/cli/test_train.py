"""``arcsm train``: one checkpoint, the same for the same seed, that a run can be continued from."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.cli.files import contents
from tests.cli.preloaded import VECTORS

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Train = Callable[..., "Done"]


@pytest.fixture
def train(call: Call) -> Train:
    """Trains a tiny model of ``gaussian:2`` for 3 steps, if not told otherwise."""

    def train(*options: object, data: object = "gaussian:2", steps: int | None = 3) -> "Done":
        size = ("--hidden", "8") if "--hidden" not in options else ()
        length = () if steps is None else ("--steps", steps)
        where = () if "-o" in options else ("-o", "m.safetensors")
        few = ("--limit", 400) if data == "gaussian:2" and "--limit" not in options else ()
        return call("train", data, *few, *size, *length, *where, *options)

    return train


def test_options_reach_the_model(train: Train, tmp_path: Path) -> None:
    train("--sigma-max", 2, "--sigma-min", 0.5, "--levels", 3, "--order", "reversed")
    _, config, _ = contents(tmp_path / "m.safetensors")
    assert config["levels"] == pytest.approx([2, 1, 0.5])
    assert (config["order"], config["hidden"]) == ("reversed", [8])


def test_columns_are_standardised_on_request_alone(train: Train, tmp_path: Path) -> None:
    train("-o", "plain")
    train("-o", "scaled", "--standardize")
    plain, scaled = (contents(tmp_path / name)[1] for name in ("plain", "scaled"))
    assert plain["data_scale"] == [1.0]
    assert len(scaled["data_scale"]) == 2


def test_epochs_are_passes_over_the_training_data(train: Train, tmp_path: Path) -> None:
    # A tenth of 100 examples is held out: two epochs of three whole batches of 30.
    options = ("--limit", 100, "--batch-size", 30, "--epochs", 2)
    assert train(*options, data="digits", steps=None).code == 0
    assert contents(tmp_path / "m.safetensors")[2]["step"] == 6


def test_json_gives_the_final_figures_and_nothing_else(train: Train) -> None:
    done = train("--json")
    assert done.json["metrics"]["step"] == 3
    assert {"loss", "valid_loss"} < set(done.json["metrics"])


def test_a_dry_run_says_what_would_be_and_writes_nothing(train: Train, tmp_path: Path) -> None:
    done = train("--dry-run", "--json", "-o", "dry", steps=400)
    assert done.code == 0
    found = json.loads(done.out)
    assert (found["run"]["device"][:3], found["run"]["steps"]) == ("cpu", 400)
    sizes = found["sizes"]
    assert 2 * sizes["weights_mib"] == pytest.approx(sizes["optimizer_mib"], rel=0.1)
    time = found["time"]
    assert time["hours_left"] == pytest.approx(time["seconds_a_step"] / 9)
    assert not list(tmp_path.glob("dry*"))


def test_a_named_pipe_gets_the_finished_checkpoint_alone(train: Train, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = train("-o", pipe, "--checkpoint-every", 1)
    reader.join(timeout=300)
    assert done.code == 0
    assert list(tmp_path.iterdir()) == [pipe]
    (tmp_path / "m.safetensors").write_bytes(received[0])
    assert contents(tmp_path / "m.safetensors")[2]["step"] == 3


def test_curves_are_logged_on_request(train: Train, tmp_path: Path) -> None:
    assert train("--log-dir", "runs/first").code == 0
    assert list((tmp_path / "runs" / "first").glob("events.*"))


@pytest.mark.parametrize("existing", ["m.safetensors", "m.safetensors.resume"])
def test_no_file_of_another_run_is_replaced_unless_forced(
    existing: str, train: Train, tmp_path: Path
) -> None:
    (tmp_path / existing).write_text("mine")
    done = train()
    assert (done.code, done.err.count("\n"), existing in done.err) == (73, 1, True)
    assert [p.name for p in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"
    assert train("--force").code == 0
    assert contents(tmp_path / "m.safetensors")[2]["step"] == 3


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--lr nan", 2),
        ("--lr 0", 2),
        ("--lr -1", 2),
        ("--epochs inf", 2),
        ("--epochs 0", 2),
        ("--steps 0", 2),
        ("--epochs 1 --steps 1", 2),
        ("--batch-size 0", 2),
        ("--ema 2", 2),
        ("--clip nan", 2),
        ("--hidden 0", 2),
        ("--hidden 8,,8", 2),
        ("--hidden 65537", 2),
        ("--residual --hidden 8,16", 2),
        ("--score-hidden=", 2),
        ("--context-width 0", 2),
        ("--context pixelsnail", 2),
        ("--order spiral", 2),
        ("--order-seed 9223372036854775808", 2),
        ("--annealing some", 2),
        ("--annealing none --sigma-max 3", 2),
        ("--annealing none --sigma-min 0 --objective dsm", 2),
        ("--sigma-min 0", 2),
        ("--sigma-min nan", 2),
        ("--sigma-max inf", 2),
        ("--sigma-min 2 --sigma-max 1", 2),
        ("--levels 1", 2),
        ("--levels 0", 2),
        ("--levels 1000000", 2),
        ("--objective mle2", 2),
        ("--resize 4", 2),
        ("--device gpu", 2),
        ("--resume -o -", 2),
        ("--device cuda:4095", 69),
        ("-o nowhere/m.safetensors", 73),
        ("-o .", 73),
        ("--log-dir /dev/null/runs", 73),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_that_names_the_option(
    options: str, code: int, train: Train, tmp_path: Path
) -> None:
    words = options.split()
    done = train(*words, steps=None if {"--steps", "--epochs"} & set(words) else 3)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    names = [word.split("=")[0].removeprefix("--") for word in words if word.startswith("--")]
    assert any(name in done.err for name in [*names, words[-1]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("gausian:2", 66),
        ("nowhere.h5", 66),
        ("digits:valid", 2),
        ("gaussian:0", 2),
        ("uniform", 2),
        ("mnist", 69),
    ],
)
def test_data_that_are_not_there_are_named(
    data: str, code: int, train: Train, tmp_path: Path
) -> None:
    done = train("--data-dir", tmp_path / "data", data=data)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert data.partition(":")[0] in done.err
    assert not list(tmp_path.glob("m.*"))


def test_resuming_nothing_begins(train: Train, tmp_path: Path) -> None:
    assert train("-o", "a").code == 0
    assert train("-o", "b", "--resume").code == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_resuming_a_finished_run_changes_nothing(train: Train, tmp_path: Path) -> None:
    train()
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    done = train("--resume")
    assert (done.code, done.out) == (0, b"")
    assert "holding" in done.err or "validates on" in done.err
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}


def test_a_run_that_was_killed_before_its_last_file_is_finished(
    train: Train, tmp_path: Path
) -> None:
    train()
    whole = contents(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").unlink()
    assert train("--resume").code == 0
    assert contents(tmp_path / "m.safetensors") == whole


def test_a_finished_run_can_be_made_longer(train: Train, tmp_path: Path) -> None:
    train()
    assert train("--resume", steps=5).code == 0
    assert contents(tmp_path / "m.safetensors")[2]["step"] == 5


def test_a_checkpoint_without_its_resume_file_is_not_replaced(train: Train, tmp_path: Path) -> None:
    train()
    (tmp_path / "m.safetensors.resume").unlink()
    done = train("--resume")
    assert (done.code, done.err.count("\n"), "m.safetensors" in done.err) == (73, 1, True)


@pytest.mark.parametrize(
    "option",
    [
        "--lr 0.5",
        "--batch-size 7",
        "--seed 1",
        "--ema 0.5",
        "--objective dsm",
        "--hidden 9",
        "--score-hidden 9",
        "--context-width 9",
        "--order reversed",
        "--annealing none",
        "--sigma-min 0.5",
        "--sigma-max 5",
        "--levels 3",
        "--standardize",
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    option: str, call_in: Call, call: Call, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "finished"
    base = ("train", *VECTORS, "--steps", 3, "-o", "m.safetensors")
    if not folder.exists():
        folder.mkdir()
        assert call_in(folder, *base, "--hidden", "8").code == 0
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    size = () if option.startswith("--hidden") else ("--hidden", "8")
    done = call(*base, *size, "--resume", *option.split(), folder=folder)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert option.split()[0] in done.err
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_run_is_not_resumed_with_other_data(train: Train) -> None:
    train()
    done = train("--resume", data="rings")
    assert (done.code, done.err.count("\n"), "m.safetensors.resume" in done.err) == (2, 1, True)


def test_a_staged_run_is_not_resumed_with_other_stages(train: Train) -> None:
    options = ("--annealing", "staged", "--levels", "2")
    train(*options)
    done = train(*options, "--resume", steps=4)
    assert (done.code, done.err.count("\n"), "--steps" in done.err) == (2, 1, True)


def test_divergence_ends_in_one_line_and_keeps_the_last_good_checkpoint(
    train: Train, tmp_path: Path
) -> None:
    # Rates between what float32 just holds and what it does not hold any more.
    wild = ("--lr", "1e18", "--clip", 0, "--warmup", 100, "--frames", "none")
    wild = (*wild, "--checkpoint-every", 1)
    done = train(*wild, "-q", "--limit", 200, "--batch-size", 32, steps=30)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "diverged" in done.err
    assert "Traceback" not in done.err
    step = contents(tmp_path / "m.safetensors")[2]["step"]
    assert f"the checkpoint of step {step} is kept" in done.err


def test_divergence_at_once_leaves_what_was_there(train: Train, tmp_path: Path) -> None:
    train()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done = train("--force", "--lr", "1e30", "--clip", 0)
    assert (done.code, "diverged" in done.err) == (1, True)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_what_a_file_trained_is_measured_on_the_rest_of_it_or_not_in_silence(
    call: Call, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 2)))
    trained = call("train", "x.npy", "--hidden", "8", "--steps", 2, "-o", "m.safetensors")
    told = call("info", "m.safetensors", "--json").json["training"]["examples"]
    counts = [told[key] for key in ("used", "held_out", "left_for_test")]
    assert sum(counts) == 200
    assert all(str(count) in trained.err for count in counts)
    rest, whole, other = (
        call("eval", "m.safetensors", data, "--metric", "csm", "--json")
        for data in ("x.npy", "x.npy:all", "gaussian:2")
    )
    assert (rest.json["data"], rest.json["examples"]) == ("x.npy:test", counts[2])
    assert "x.npy:all" in rest.err
    assert (whole.json["examples"], whole.json["overlap"]) == (200, {"training_examples": 1.0})
    assert f"about {counts[0]} of the 200" in whole.err
    assert ("overlap" in rest.json, "overlap" in other.json, other.err) == (False, False, "")


def test_a_run_of_an_earlier_version_is_resumed(call: Call, tmp_path: Path) -> None:
    for file in (Path(__file__).parents[1] / "io" / "version1").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    small = ("--hidden", 4, "--context-width", 2, "--score-hidden", "2,2", "--annealing", "none")
    as_then = ("--control-variate", "none", "--frames", "none", "--lr", "5e-3")
    options = (*small, *as_then, "--checkpoint-every", 1, "--resume")
    done = call("train", "rings", "--steps", 3, *options, "-o", "rings.safetensors")
    assert done.code == 0, done.err
    assert contents(tmp_path / "rings.safetensors")[2]["step"] == 3
