"""The real program, quickly: processes forked off one that has imported everything already.

A plugin for the tests of what a command does with its input, which need many runs. Each run is a
process of its own, with its own files as standard streams, its own exit code and signals; it saves
only the seconds that the imports take.
"""

import gc
import importlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_TIME = 300  # seconds, then a run is ended: a busy machine must not fail a test
# What the commands import when they run.
_MODULES = (
    "torch._dynamo",
    "ot",
    "pydantic.type_adapter",
    "sklearn.datasets",
    "sklearn.metrics",
    "arcsm_cli.cli.program",
    "arcsm_cli.cli.invocation",
    "arcsm_cli.commands.data",
    "arcsm_cli.commands.denoise",
    "arcsm_cli.commands.eval",
    "arcsm_cli.commands.info",
    "arcsm_cli.commands.merge",
    "arcsm_cli.commands.ood_score",
    "arcsm_cli.commands.plot",
    "arcsm_cli.commands.sample",
    "arcsm_cli.commands.train",
    "arcsm_cli.commands.vae_train",
    "arcsm_cli.data.embedded",
    "arcsm_cli.data.files",
    "arcsm_cli.data.spec",
    "arcsm_cli.data.twod",
    "arcsm_cli.denoising.methods",
    "arcsm_cli.evaluation.model_metrics",
    "arcsm_cli.evaluation.restoration",
    "arcsm_cli.evaluation.ood_reference",
    "arcsm_cli.evaluation.ood_report",
    "arcsm_cli.evaluation.sample_metrics",
    "arcsm_cli.evaluation.sample_report",
    "arcsm_cli.evaluation.vae_metrics",
    "arcsm_cli.models.load",
    "arcsm_cli.plotting.images",
    "arcsm_cli.plotting.latent",
    "arcsm_cli.sampling.samplers",
    "arcsm_cli.runtime",
    "arcsm_cli.training.session",
    "arcsm_cli.training.vae_task",
)
_MEMORY = 4 << 30  # bytes of address space that a run may take beyond what the imports take


@dataclass(frozen=True)
class Done:
    """How a run ended: exit code (or -signal), streams, CPU seconds, and bytes of memory added."""

    code: int
    out: bytes
    err: str
    seconds: float
    memory: int

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


class Server:
    """The process that the others are forked off."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._streams = (folder / f"{i}" for i in itertools.count())
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=folder,
            text=True,
        )

    def ask(self, *request: object) -> Any:
        """Sends a request and returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def stream(self) -> Path:
        """A new file for a standard stream."""
        return next(self._streams)

    def end(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=60)


class Running:
    """A run of ``arcsm`` that has been started in a folder.

    Arguments:
        server: the process to fork.
        folder: where to run.
        arguments: after the program's name.
        stdin, stdout: files, named pipes or terminals; nothing, and a file.
        env: variables to add to the environment.
        before: a module of tests/slow/faults and arguments for its ``install``, called in the
            process before the program; of what it returns, ``finish`` is called afterwards.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        arguments: tuple[object, ...],
        *,
        stdin: Path | str = os.devnull,
        stdout: Path | str | None = None,
        env: dict[str, str] | None = None,
        before: tuple[object, ...] = (),
    ) -> None:
        self.folder = folder
        self._server = server
        self._out, self._err = Path(stdout or server.stream()), server.stream()
        for stream in (self._out, self._err):  # the process may be killed before it opens them
            if not stream.exists():
                stream.touch()
        streams = [str(stdin), str(self._out), str(self._err)]
        self._own = stdout is None
        job = [str(folder), list(map(str, arguments)), streams, env or {}, before]
        self.pid = server.ask("start", *job)

    def catch(self, is_due: Callable[[], bool]) -> None:
        """Stops the process as soon as `is_due`."""
        deadline = time.monotonic() + _TIME
        while not is_due() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(self.pid, signal.SIGSTOP)
        assert is_due(), "the program never came that far"

    def end(self, signum: int) -> Done:
        """Sends a signal and lets a stopped process go on to its end."""
        self.go_on(signum)
        return self.wait()

    def go_on(self, signum: int) -> None:
        """Sends a signal and lets a stopped process go on."""
        os.kill(self.pid, signum)
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> Done:
        """Waits for the end."""
        code, seconds, memory = self._server.ask("wait", self.pid)
        out = self._out.read_bytes() if self._own else b""
        return Done(code, out, self._err.read_bytes().decode(), seconds, memory)


Call = Callable[..., Done]
Start = Callable[..., Running]


@pytest.fixture(scope="session")
def start_in(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Starts ``arcsm``: ``start_in(folder, *arguments, stdin=path, env=more)``, see `Running`."""
    server = Server(environment, tmp_path_factory.mktemp("streams"))

    def start(folder: Path, *arguments: object, **options: Any) -> Running:
        return Running(server, folder, arguments, **options)

    yield start
    server.end()


@pytest.fixture(scope="session")
def call_in(start_in: Start) -> Call:
    """Runs ``arcsm`` in a folder, with arguments as `start_in` takes."""

    def call(folder: Path, *arguments: object, **options: Any) -> Done:
        return start_in(folder, *arguments, **options).wait()

    return call


@pytest.fixture
def start(start_in: Start, tmp_path: Path) -> Start:
    """Starts ``arcsm`` with arguments in an empty folder, see `Running`."""

    def start(*arguments: object, **options: Any) -> Running:
        return start_in(tmp_path, *arguments, **options)

    return start


@pytest.fixture
def call(call_in: Call, tmp_path: Path) -> Call:
    """Runs ``arcsm`` with arguments in an empty folder."""

    def call(*arguments: object, **options: Any) -> Done:
        return call_in(tmp_path, *arguments, **options)

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


@pytest.fixture(scope="session")
def digits_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits, hardly trained."""
    return _trained(call_in, tmp_path_factory.mktemp("digits"), "digits", "--steps", 20)


@pytest.fixture(scope="session")
def vector_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ``gaussian:2``, hardly trained."""
    return _trained(call_in, tmp_path_factory.mktemp("vectors"), "gaussian:2", "--steps", 20)


@pytest.fixture(scope="session")
def staged_model(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ``gaussian:2`` with one network a noise level, hardly trained."""
    options = ("--annealing", "staged", "--levels", 2, "--steps", 5)
    return _trained(call_in, tmp_path_factory.mktemp("staged"), "gaussian:2", *options)


def _trained(call_in: Call, folder: Path, *arguments: object) -> Path:
    done = call_in(
        folder, "train", *arguments, "--hidden", "16,16", "-q", "-o", "model.safetensors"
    )
    assert (done.code, done.out, done.err) == (0, b"", "")
    return folder / "model.safetensors"


def _serve() -> None:
    for name in ("JAX", "CUPY", "TENSORFLOW"):  # as the program does: POT would import them
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    for module in _MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is imported is never looked at again: forks share its pages
    started: dict[int, int] = {}

    def start(*job: Any) -> int:
        memory = _in_use(1)
        child = os.fork()
        if child == 0:
            os._exit(_run(*job))
        started[child] = memory
        return child

    def wait(child: int) -> tuple[int, float, int]:
        _, status, usage = os.wait4(child, 0)
        memory = usage.ru_maxrss * 1024 - started.pop(child)
        code = os.waitstatus_to_exitcode(status)
        return code, usage.ru_utime + usage.ru_stime, max(0, memory)

    for line in sys.stdin:
        operation, *job = json.loads(line)
        print(json.dumps({"start": start, "wait": wait}[operation](*job)), flush=True)
    for child in started:
        os.kill(child, signal.SIGKILL)
    os._exit(0)  # the interpreter would take a second to tidy up


def _run(
    folder: str, arguments: list[str], streams: list[str], env: dict[str, str], before: list[Any]
) -> int:
    from arcsm_cli.app import main

    for number, name in enumerate(streams):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
        os.dup2(os.open(name, flags | os.O_NOCTTY), number)
    os.environ.update(env)
    os.chdir(folder)
    tempfile.tempdir = None  # some import has asked for it, and it is remembered
    limit = _in_use(0) + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(_TIME)
    if not before:
        return main(arguments)
    # Not as a module of `tests`: a library installs a package of that name, which a script gets.
    sys.path.append(str(Path(__file__).parents[1] / "slow" / "faults"))
    installed = importlib.import_module(before[0]).install(*before[1:])
    code = main(arguments)
    installed.finish()
    return code


def _in_use(field: int) -> int:
    """Bytes of address space (0) or of resident memory (1) of this process."""
    pages = Path("/proc/self/statm").read_text().split()[field]
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    _serve()
