"""Signals during training and sampling: saved and resumable, or gone without a trace."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]

COMMON = (
    *("train", "gaussian:2", "--limit", "400", "--hidden", "16,16", "--batch-size", "32"),
    *("-q", "-o", "m.safetensors"),
)
RUNS = {
    # The first save, which the tests wait for, lies well before the end: within the second stage
    # of the staged run.
    "joint": (*COMMON, "--steps", "40", "--checkpoint-every", "6"),
    "staged": (
        *(*COMMON, "--annealing", "staged", "--levels", "3", "--sigma-min", "0.1"),
        *("--steps", "15", "--checkpoint-every", "17"),
    ),
}
FILES = ["m.safetensors", "m.safetensors.resume"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder that a command works in; its temporary files go to another one."""
    for name in ("work", "spool"):
        (tmp_path / name).mkdir()
    return tmp_path / "work"


@pytest.fixture
def begin(start_in: Start, work: Path) -> Start:
    """Starts ``arcsm`` in the folder `work`."""
    spool = str(work.with_name("spool"))
    # PyTorch makes itself a folder there, whatever it is used for.
    env = {"TMPDIR": spool, "TORCHINDUCTOR_CACHE_DIR": str(work.with_name("inductor"))}

    def begin(*arguments: object) -> "Running":
        return start_in(work, *arguments, env=env)

    return begin


def left(work: Path) -> list[str]:
    return sorted(p.name for p in (*work.iterdir(), *work.with_name("spool").iterdir()))


@pytest.fixture(scope="session")
def uninterrupted(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a run of `RUNS` that nothing stopped."""
    found: dict[str, Path] = {}

    def checkpoint(kind: str) -> Path:
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            assert call_in(folder, *RUNS[kind]).code == 0
            found[kind] = folder / "m.safetensors"
        return found[kind]

    return checkpoint


def tensors(path: Path) -> dict[str, bytes]:
    from arcsm_cli.io.checkpoint import load_checkpoint

    return {name: t.numpy().tobytes() for name, t in load_checkpoint(path).tensors.items()}


def curves(path: Path) -> dict[str, list[float]]:
    from arcsm_cli.io.checkpoint import load_checkpoint

    history: dict[str, list[float]] = load_checkpoint(path).training["history"]
    return history


@pytest.mark.parametrize(
    ("kind", "signum"),
    [
        ("joint", signal.SIGTERM),
        pytest.param("joint", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("staged", signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_goes_on_to_the_very_weights_of_one_that_was_not(
    kind: str,
    signum: signal.Signals,
    begin: Start,
    work: Path,
    uninterrupted: Callable[[str], Path],
) -> None:
    running = begin(*RUNS[kind])
    checkpoint = work / "m.safetensors"
    running.catch(checkpoint.exists)
    done = running.end(signum)
    assert (done.code, done.out, done.err.count("\n")) == (75, b"", 1)
    assert signum.name in done.err
    assert "--resume" in done.err
    assert left(work) == FILES
    assert tensors(checkpoint) != tensors(uninterrupted(kind))

    done = begin(*RUNS[kind], "--resume").wait()
    assert (done.code, done.out) == (0, b"")
    assert left(work) == FILES
    assert tensors(checkpoint) == tensors(uninterrupted(kind))
    assert curves(checkpoint) == curves(uninterrupted(kind))


def test_a_run_that_was_killed_goes_on_from_its_last_save(
    begin: Start, work: Path, uninterrupted: Callable[[str], Path]
) -> None:
    running = begin(*RUNS["joint"])
    running.catch((work / "m.safetensors").exists)
    assert running.end(signal.SIGKILL).code == -signal.SIGKILL
    assert begin(*RUNS["joint"], "--resume").wait().code == 0
    assert tensors(work / "m.safetensors") == tensors(uninterrupted("joint"))


def test_training_into_a_pipe_has_nothing_to_save(begin: Start, work: Path) -> None:
    options = ("--hidden", "16,16", "--steps", "100000", "--log-dir", "runs", "-q")
    running = begin("train", "gaussian:2", "--limit", 400, *options, "-o", "-")
    # TensorBoard's file is made where the steps begin.
    running.catch(lambda: bool(list(work.glob("runs/events.*"))))
    done = running.end(signal.SIGTERM)
    assert (done.code, done.out, done.err.count("\n")) == (130, b"", 1)
    assert left(work) == ["runs"]


@pytest.mark.parametrize(
    ("signum", "output"), [(signal.SIGTERM, "s.h5"), (signal.SIGINT, "-")], ids=["file", "pipe"]
)
def test_a_signal_while_sampling_leaves_nothing(
    signum: signal.Signals, output: str, begin: Start, work: Path, digits_model: Path
) -> None:
    running = begin("sample", digits_model, "-n", "1000000", "-q", "-o", output)
    running.catch(lambda: bool(left(work)))
    done = running.end(signum)
    message = f"arcsm sample: interrupted by {signum.name}\n"
    assert (done.code, done.out, done.err) == (130, b"", message)
    assert left(work) == []


def test_a_signal_while_evaluating_prints_no_figures_and_leaves_nothing(
    begin: Start, work: Path, digits_model: Path
) -> None:
    running = begin("eval", digits_model, "digits", "--batch-size", "1", "-q", "-o", "scored.h5")
    running.catch(lambda: bool(left(work)))
    done = running.end(signal.SIGINT)
    assert (done.code, done.out, done.err) == (130, b"", "arcsm eval: interrupted by SIGINT\n")
    assert left(work) == []
