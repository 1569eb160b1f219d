"""SIGINT, SIGTERM and their like: the program ends with 130 and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcsm_cli.cli.signals import SignalInterrupt, StopFlag

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample file that takes a while to copy."""
    from arcsm_cli.io.samples import SampleWriter

    path = tmp_path_factory.mktemp("large") / "large.h5"
    block = np.zeros((20_000, 256), np.float32)
    with SampleWriter(path, (256,), []) as writer:
        for _ in range(3):
            writer.append(block)
    return path


class Running:
    """The program at work in a folder of its own, its temporary files in another."""

    def __init__(
        self, command: list[str], environment: dict[str, str], folder: Path, stdin: int
    ) -> None:
        self.work, self.spool = folder / "work", folder / "spool"
        self.work.mkdir()
        self.spool.mkdir()
        self.process = subprocess.Popen(
            command,
            cwd=self.work,
            env=environment | {"TMPDIR": str(self.spool)},
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self) -> list[str]:
        return [path.name for path in (*self.work.iterdir(), *self.spool.iterdir())]

    def catch_at_work(self) -> None:
        """Stops the process as soon as it has begun a file."""
        deadline = time.monotonic() + 300
        while not self.left() and time.monotonic() < deadline:
            time.sleep(0.001)
        self.process.send_signal(signal.SIGSTOP)
        assert self.left(), "the program never began to write"

    def end(self, signum: int, times: int = 1) -> tuple[int, str]:
        """Sends a signal and lets the process go on; returns its exit code and stderr."""
        for _ in range(times):
            self.process.send_signal(signum)
        self.process.send_signal(signal.SIGCONT)
        _, err = self.process.communicate(timeout=300)
        return self.process.returncode, err


Start = Callable[..., Running]


@pytest.fixture
def start(program: list[str], environment: dict[str, str], tmp_path: Path) -> Start:
    def start(*arguments: object, stdin: int = subprocess.DEVNULL) -> Running:
        return Running([*program, *map(str, arguments)], environment, tmp_path, stdin)

    return start


@pytest.mark.parametrize(
    ("signum", "output"),
    [(signum, "-" if signum == signal.SIGHUP else "all.h5") for signum in ENDING],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_while_writing_leaves_nothing(
    signum: signal.Signals, output: str, start: Start, large: Path
) -> None:
    running = start("merge", large, "-o", output)
    running.catch_at_work()
    code, err = running.end(signum)
    assert (code, err) == (130, f"arcsm merge: interrupted by {signum.name}\n")
    assert running.left() == []


def test_a_signal_while_spooling_leaves_nothing(start: Start) -> None:
    reader, writer = os.pipe()
    running = start("info", "-", stdin=reader)
    running.catch_at_work()
    assert running.end(signal.SIGTERM)[0] == 130
    assert running.left() == []
    os.close(reader)
    os.close(writer)


def test_repeated_signals_are_as_good_as_one(start: Start, large: Path) -> None:
    running = start("merge", large, "-o", "all.h5")
    running.catch_at_work()
    code, err = running.end(signal.SIGTERM, times=20)
    assert (code, err.count("\n")) == (130, 1)
    assert running.left() == []


def test_a_signal_leaves_the_file_that_was_to_be_replaced(start: Start, large: Path) -> None:
    running = start("merge", large, "-o", "all.h5", "--force")
    (running.work / "all.h5").write_text("old")
    while not any(name.startswith(".all") for name in running.left()):
        time.sleep(0.001)
    assert running.end(signal.SIGTERM)[0] == 130
    assert running.left() == ["all.h5"]
    assert (running.work / "all.h5").read_text() == "old"


def test_a_signal_ignored_from_outside_stays_ignored(
    program: list[str], environment: dict[str, str], large: Path, tmp_path: Path
) -> None:
    # As nohup and scripts that start background jobs do.
    ignore = f"trap '' HUP; exec {' '.join(program)} merge {large} -o {tmp_path}/all.h5"
    process = subprocess.Popen(["sh", "-c", ignore], env=environment)
    while not list(tmp_path.iterdir()):
        time.sleep(0.001)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=300) == 0


@pytest.mark.parametrize("signum", ENDING, ids=lambda s: s.name)
def test_a_stop_flag_turns_a_signal_into_a_flag(signum: signal.Signals) -> None:
    with StopFlag() as stop:
        assert not stop
        signal.raise_signal(signum)
        assert stop
        assert stop.reason == signum.name


@pytest.mark.parametrize("signum", ENDING[1:], ids=lambda s: s.name)
def test_a_stop_flag_outlasts_repetitions(signum: signal.Signals) -> None:
    with StopFlag() as stop:
        for _ in range(5):
            signal.raise_signal(signum)
    assert stop


def test_the_second_interrupt_aborts() -> None:
    with StopFlag():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(SignalInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_after_another_signal_still_only_stops() -> None:
    with StopFlag() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "SIGTERM"


def test_a_stop_flag_puts_the_handlers_back() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with StopFlag():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_forked_worker_dies_of_sigterm_and_outlives_sigint() -> None:
    with StopFlag():
        child = os.fork()
        if child == 0:  # pragma: no cover  runs in the child
            time.sleep(30)
            os._exit(0)
        os.kill(child, signal.SIGINT)
        time.sleep(0.05)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_signal_that_comes_after_the_end_does_not_change_the_exit_code(
    environment: dict[str, str],
) -> None:
    code = (
        "import atexit, os, signal, sys, time; from arcsm_cli.app import main;"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM));"
        "sys.argv = ['arcsm', '--version']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
