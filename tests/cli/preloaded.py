"""The real program, quickly: in this process, or in one forked off it that needs no start-up.

A plugin for the tests of what commands do, which need many runs. ``call`` runs the program here,
with files of its own as standard streams: for what goes in and what comes out. ``start`` and
``apart`` run it in a process of its own: for signals, pipes, limits and what a run takes.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Done, Running, Server, elsewhere, server

Call = Callable[..., Done]
Start = Callable[..., Running]


_SERVER = pytest.StashKey[Server]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Makes ready where tests start processes: before any of them has left traces in this one."""
    if any("start_in" in getattr(item, "fixturenames", ()) for item in session.items):
        session.config.stash[_SERVER] = server()


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of new files for standard streams."""
    folder = tmp_path_factory.mktemp("streams")
    return (folder / f"{i}" for i in itertools.count())


@pytest.fixture(scope="session")
def start_in(
    environment: dict[str, str], streams: Iterator[Path], pytestconfig: pytest.Config
) -> Start:
    """Starts ``arcsm``: ``start_in(folder, *arguments, stdin=path, env=more)``, see `Running`."""
    forked = pytestconfig.stash[_SERVER]

    def start(folder: Path, *arguments: object, **options: Any) -> Running:
        return Running(forked, environment, streams, folder, arguments, **options)

    return start


@pytest.fixture(scope="session")
def call_in(environment: dict[str, str], streams: Iterator[Path]) -> Call:
    """Runs ``arcsm`` in a folder and in this process, with arguments as `start_in` takes."""

    def call(
        folder: Path,
        *arguments: object,
        stdin: Path | str = os.devnull,
        stdout: Path | str | None = None,
        env: dict[str, str] | None = None,
    ) -> Done:
        out, err = Path(stdout or next(streams)), next(streams)
        with elsewhere(folder, [str(stdin), str(out), str(err)], environment | (env or {})):
            from arcsm_cli.app import main

            code = main(list(map(str, arguments)))
        return Done(code, b"" if stdout else out.read_bytes(), err.read_bytes().decode())

    return call


@pytest.fixture
def start(start_in: Start, tmp_path: Path) -> Start:
    """Starts ``arcsm`` with arguments in an empty folder, see `Running`."""

    def start(*arguments: object, **options: Any) -> Running:
        return start_in(tmp_path, *arguments, **options)

    return start


@pytest.fixture
def apart(start: Start) -> Call:
    """Runs ``arcsm`` with arguments in an empty folder, as a process of its own."""

    def apart(*arguments: object, **options: Any) -> Done:
        return start(*arguments, **options).wait()

    return apart


@pytest.fixture
def call(call_in: Call, tmp_path: Path) -> Call:
    """Runs ``arcsm`` with arguments in an empty folder, or another one, in this process."""

    def call(*arguments: object, folder: Path = tmp_path, **options: Any) -> Done:
        return call_in(folder, *arguments, **options)

    return call


@pytest.fixture
def pipeline(start_in: Start, tmp_path: Path) -> Callable[..., list[Done]]:
    """Runs commands joined by pipes in an empty folder; the last one's output is kept."""

    def run(*commands: tuple[object, ...]) -> list[Done]:
        with tempfile.TemporaryDirectory() as folder:
            pipes = [Path(folder, str(i)) for i in range(len(commands) - 1)]
            for pipe in pipes:
                os.mkfifo(pipe)
            ends = zip([os.devnull, *pipes], [*pipes, None], strict=True)
            running = [
                start_in(tmp_path, *command, stdin=stdin, stdout=stdout)
                for command, (stdin, stdout) in zip(commands, ends, strict=True)
            ]
            return [process.wait() for process in running]

    return run


VECTORS = ("gaussian:2", "--limit", 400)  # each of 50,000 rows would be hashed


@pytest.fixture(scope="session")
def digits_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits, hardly trained."""
    return _trained(call_in, tmp_path_factory.mktemp("digits"), "digits", "--steps", 20)


@pytest.fixture(scope="session")
def vector_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `VECTORS`, hardly trained."""
    return _trained(call_in, tmp_path_factory.mktemp("vectors"), *VECTORS, "--steps", 20)


@pytest.fixture(scope="session")
def staged_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `VECTORS` with one network a noise level, hardly trained."""
    options = ("--annealing", "staged", "--levels", 2, "--steps", 5)
    return _trained(call_in, tmp_path_factory.mktemp("staged"), *VECTORS, *options)


def _trained(call_in: Call, folder: Path, *arguments: object) -> Path:
    done = call_in(
        folder, "train", *arguments, "--hidden", "16,16", "-q", "-o", "model.safetensors"
    )
    assert (done.code, done.out, done.err) == (0, b"", "")
    return folder / "model.safetensors"
