"""Commands joined by real pipes: results alone on stdout, nothing else anywhere."""

import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arcsm_cli.io.samples import SampleFile

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]


def test_scored_examples_go_to_stdout_without_the_table(
    call: Call, vector_model: Path, tmp_path: Path
) -> None:
    done = call("eval", vector_model, "gaussian:2", "--limit", 9, "-o", "-")
    assert (done.code, done.err) == (0, "")
    (tmp_path / "scored.h5").write_bytes(done.out)
    found = call("info", "-", "--json", stdin=tmp_path / "scored.h5").json
    assert found["datasets"]["statistics/nll"] == [9]


def test_a_model_and_data_may_come_from_stdin(
    call: Call, vector_model: Path, tmp_path: Path
) -> None:
    drawn = call("sample", "-", "-n", 5, "-o", "-", stdin=vector_model)
    named = call("sample", vector_model, "-n", 5, "-o", "named.h5")
    assert (drawn.code, named.code, drawn.err) == (0, 0, "")
    (tmp_path / "piped.h5").write_bytes(drawn.out)
    with SampleFile(tmp_path / "piped.h5") as piped, SampleFile(tmp_path / "named.h5") as file:
        assert piped.read(0, 5).tobytes() == file.read(0, 5).tobytes()
    scored = call("eval", vector_model, "-", "--json", stdin=tmp_path / "piped.h5")
    assert scored.json["examples"] == 5
    trained = call("train", "-", "--steps", 2, "-q", "-o", "m", stdin=tmp_path / "piped.h5")
    assert (trained.code, trained.err) == (0, "")


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_the_writer_quietly(
    start: Start, vector_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    os.mkfifo(tmp_path / "pipe")
    # More than a pipe holds.
    many = ("-n", 9000, "--batch-size", 9000, "--steps", 1)
    drawing = ("sample", vector_model, "-q", *many, "-o", "-")
    env = {"TMPDIR": "spool", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    running = start(*drawing, stdout=tmp_path / "pipe", env=env)
    with (tmp_path / "pipe").open("rb", buffering=0) as reader:
        assert len(reader.read(10)) == 10
    done = running.wait()
    assert (done.code, done.err) == (0, "")
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    ["eval MODEL gaussian:2 --limit 9", "train gaussian:2 --steps 2 --hidden 512,512 -q -o -"],
    ids=lambda arguments: arguments.split()[0],
)
def test_a_reader_that_leaves_ends_the_writer_quietly(
    arguments: str, start: Start, vector_model: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = [str(vector_model) if word == "MODEL" else word for word in arguments.split()]
    running = start(*words, stdout=pipe)
    pipe.open("rb").close()
    done = running.wait()
    assert (done.code, done.err) == (0, "")
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("command", ["train", "sample", "eval", "merge"])
def test_binary_data_are_not_written_to_a_terminal(
    command: str, call: Call, vector_model: Path, samples: Path
) -> None:
    leader, follower = pty.openpty()
    inputs = {"train": ["gaussian:2"], "sample": [vector_model], "eval": [vector_model, "rings"]}
    inputs |= {"merge": [samples]}
    done = call(command, *inputs[command], "-o", "-", stdout=os.ttyname(follower))
    os.close(follower)
    os.close(leader)
    assert (done.code, done.err.count("\n"), "terminal" in done.err) == (73, 1, True)


@pytest.mark.parametrize(
    "arguments", ["sample - -o s.h5", "eval - digits", "eval -", "train - -o m", "info -"]
)
def test_nothing_is_read_from_a_terminal(arguments: str, call: Call, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    done = call(*arguments.split(), stdin=os.ttyname(follower))
    os.close(follower)
    os.close(leader)
    assert (done.code, done.err.count("\n"), "terminal" in done.err) == (2, 1, True)
    assert list(tmp_path.iterdir()) == []
