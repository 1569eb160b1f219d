"""Eight processes at once: one folder for data, one output."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.slow.faults.mirror import Mirror, mnist, serve
from tests.slow.faults.work import content, step

if TYPE_CHECKING:
    from tests.cli.preloaded import Running

EIGHT = range(8)

Start = Callable[..., "Running"]


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """MNIST, on this machine."""
    with serve(mnist()) as mirror:
        yield mirror


@pytest.fixture
def fetch(start: Start, tmp_path: Path, mirror: Mirror) -> Callable[[int], "Running"]:
    """Starts a process that wants MNIST in the folder ``data``, and writes it to a file."""
    before = ("mirror", mirror.address, mirror.resources, 0.05)

    def begin(number: int) -> "Running":
        where = ("--data-dir", "data", "--download")
        return start("data", "mnist", *where, "-o", f"{number}.h5", before=before)

    return begin


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "data" / "MNIST" / "raw").iterdir()}


def complete(mirror: Mirror) -> set[str]:
    return {name.removesuffix(".gz") for name in mirror.files} | {".mnist.lock"}


def test_eight_processes_share_a_download(
    fetch: Callable[[int], "Running"], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.delay = 0.01
    ended = [running.wait() for running in [fetch(i) for i in EIGHT]]
    assert [done.code for done in ended] == [0] * 8
    assert len({content(tmp_path / f"{i}.h5") for i in EIGHT}) == 1
    assert sorted(mirror.begun) == sorted(mirror.files)  # each once
    assert left(tmp_path) == complete(mirror)
    waited = [done for done in ended if "is downloading mnist, waiting for it" in done.err]
    assert waited


def test_another_takes_over_where_a_download_is_killed(
    fetch: Callable[[int], "Running"], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.delay = 0.05
    first = fetch(0)
    first.catch(lambda: len(mirror.begun) == 2)  # it stands still within the second file
    others = [fetch(i) for i in EIGHT[1:]]
    assert first.end(signal.SIGKILL).code == -signal.SIGKILL
    mirror.delay = 0.0
    assert [running.wait().code for running in others] == [0] * 7
    assert len({content(tmp_path / f"{i}.h5") for i in EIGHT[1:]}) == 1
    assert left(tmp_path) == complete(mirror)
    assert not (tmp_path / "0.h5").exists()


def test_a_connection_that_is_cut_is_tried_again(
    fetch: Callable[[int], "Running"], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.cut = lambda times: times == 1  # each file once
    ended = [running.wait() for running in [fetch(i) for i in range(3)]]
    assert [done.code for done in ended] == [0] * 3
    assert sum(done.err.count("trying again") for done in ended) == len(mirror.files)
    assert len(mirror.begun) == 2 * len(mirror.files)  # what came whole is not fetched again
    assert left(tmp_path) == complete(mirror)


def test_a_connection_that_is_always_cut_leaves_nothing(
    fetch: Callable[[int], "Running"], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.cut = lambda times: True
    done = fetch(0).wait()
    assert done.code == 69
    assert done.err.count("trying again") == 4
    assert left(tmp_path) == {".mnist.lock"}


@pytest.fixture
def draw(start: Start, vector_model: Path) -> Callable[..., "Running"]:
    """Starts a process that draws samples with a seed into a file."""

    def begin(seed: int, output: str, *more: str) -> "Running":
        options = ("-n", 2000, "--steps", 2, "-q", "--seed", seed, "-o", output, *more)
        return start("sample", vector_model, *options)

    return begin


def seed_of(path: Path) -> int:
    from arcsm_cli.io.samples import SampleFile

    with SampleFile(path) as file:
        seed: int = file.provenance[-1]["seed"]
    return seed


def test_of_eight_samples_into_one_file_one_is_there(
    draw: Callable[..., "Running"], tmp_path: Path
) -> None:
    ended = [running.wait() for running in [draw(i, "s.h5") for i in EIGHT]]
    assert sorted(done.code for done in ended) == [0, *[73] * 7]
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert all(done.err.count("\n") == 1 for done in ended if done.code)
    (winner,) = [i for i, done in enumerate(ended) if done.code == 0]
    assert seed_of(tmp_path / "s.h5") == winner
    assert draw(winner, "alone.h5").wait().code == 0
    assert content(tmp_path / "s.h5") == content(tmp_path / "alone.h5")


def test_of_several_samples_forced_into_one_file_one_is_there(
    draw: Callable[..., "Running"], tmp_path: Path
) -> None:
    ended = [running.wait() for running in [draw(i, "s.h5", "--force") for i in range(4)]]
    assert [done.code for done in ended] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert draw(seed_of(tmp_path / "s.h5"), "alone.h5").wait().code == 0
    assert content(tmp_path / "s.h5") == content(tmp_path / "alone.h5")


def test_of_eight_trainings_into_one_file_one_has_both_its_files(
    start: Start, tmp_path: Path
) -> None:
    def begin(seed: int) -> "Running":
        options = ("--hidden", "8", "--steps", 12, "--checkpoint-every", 1, "-q")
        return start("train", "gaussian:2", *options, "--seed", seed, "-o", "m.safetensors")

    ended = [running.wait() for running in [begin(i) for i in EIGHT]]
    assert sorted(done.code for done in ended) == [0, *[73] * 7]
    assert {p.name for p in tmp_path.iterdir()} == {"m.safetensors", "m.safetensors.resume"}
    (winner,) = [i for i, done in enumerate(ended) if done.code == 0]
    from arcsm_cli.io.checkpoint import load_checkpoint, load_resume

    assert load_checkpoint(tmp_path / "m.safetensors").training["settings"]["seed"] == winner
    assert load_resume(tmp_path / "m.safetensors.resume")[1]["settings"]["seed"] == winner
    assert step(tmp_path / "m.safetensors.resume") == 12
