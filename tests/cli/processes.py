"""The program in this process, or in processes forked off it that need no start-up."""

import contextlib
import ctypes
import gc
import importlib
import itertools
import json
import logging
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

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
_HUGE, _COLLAPSE = 2 << 20, 25  # bytes of a huge page; MADV_COLLAPSE of <sys/mman.h>
_MEMORY = 4 << 30  # bytes of address space that a run may take beyond what the imports take


@dataclass(frozen=True)
class Done:
    """How a run ended: exit code (or -signal) and streams.

    Of a process of its own also CPU seconds and bytes of memory added; no bound holds for the
    others.
    """

    code: int
    out: bytes
    err: str
    seconds: float = math.nan
    memory: float = math.nan

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


class Server:
    """The process that the others are forked off, itself forked off this one."""

    def __init__(self) -> None:
        asked, requests = os.pipe()
        answers, answering = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            pid = os.fork()
        if pid == 0:
            _alone(_serve, asked, answering)
        os.close(asked)
        os.close(answering)
        self._requests, self._answers = os.fdopen(requests, "w"), os.fdopen(answers)

    def ask(self, *request: object) -> Any:
        """Sends a request and returns the answer."""
        print(json.dumps(request), file=self._requests, flush=True)
        return json.loads(self._answers.readline())

    def end(self) -> None:
        """Ends the process."""
        self._requests.close()


def server() -> Server:
    """Makes this process ready to run the program, and forks the one that others are forked off."""
    for name in ("JAX", "CUPY", "TENSORFLOW"):  # as the program does: POT would import them
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    for module in _MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is imported is never looked at again: forks share its pages
    _collapse()
    return Server()


class Running:
    """A run of ``arcsm`` that has been started in a folder.

    Arguments:
        server: the process to fork.
        environment: its variables.
        streams: makes names of files for standard streams.
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
        environment: dict[str, str],
        streams: Iterator[Path],
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
        self._out, self._err = Path(stdout or next(streams)), next(streams)
        for stream in (self._out, self._err):  # the process may be killed before it opens them
            if not stream.exists():
                stream.touch()
        own = [str(stdin), str(self._out), str(self._err)]
        self._own = stdout is None
        job = [str(folder), list(map(str, arguments)), own, environment | (env or {}), before]
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


def _collapse() -> None:
    """Gathers this process's memory in huge pages: a fork copies an entry for each page."""
    library = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *_ = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        low, high = -(-low // _HUGE) * _HUGE, high // _HUGE * _HUGE
        if rights.startswith("rw") and inode == "0" and low < high:
            library.madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), _COLLAPSE)


def _alone(work: Callable[..., int], *arguments: Any) -> NoReturn:
    """Does what a fork is for and ends it: nothing of it may go on as if it ran the tests."""
    code = 1
    try:
        code = work(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(asked: int, answering: int) -> int:
    for low, high in itertools.pairwise(sorted([2, asked, answering, os.sysconf("SC_OPEN_MAX")])):
        os.closerange(low + 1, high)  # what belongs to the tests
    started: dict[int, int] = {}

    def start(*job: Any) -> int:
        memory = _in_use(1)
        child = os.fork()
        if child == 0:
            _alone(_run, *job)
        started[child] = memory
        return child

    def wait(child: int) -> tuple[int, float, int]:
        _, status, usage = os.wait4(child, 0)
        memory = usage.ru_maxrss * 1024 - started.pop(child)
        code = os.waitstatus_to_exitcode(status)
        return code, usage.ru_utime + usage.ru_stime, max(0, memory)

    with os.fdopen(answering, "w") as answers:
        for line in os.fdopen(asked):
            operation, *job = json.loads(line)
            print(json.dumps({"start": start, "wait": wait}[operation](*job)), file=answers)
            answers.flush()
    for child in started:
        os.kill(child, signal.SIGKILL)
    return 0


def _run(
    folder: str, arguments: list[str], streams: list[str], env: dict[str, str], before: list[Any]
) -> int:
    from arcsm_cli.app import main

    limit = _in_use(0) + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(_TIME)
    with elsewhere(Path(folder), streams, env):
        if not before:
            return main(arguments)
        # Not as a module of `tests`: a library installs one of that name, which a script gets.
        sys.path.append(str(Path(__file__).parents[1] / "slow" / "faults"))
        installed = importlib.import_module(before[0]).install(*before[1:])
        code = main(arguments)
        installed.finish()
        return code


@contextlib.contextmanager
def elsewhere(folder: Path, streams: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Puts this process where a program of its own would start, and back again."""
    with contextlib.ExitStack() as back:
        for number, name in enumerate(streams):
            back.callback(os.close, kept := os.dup(number))
            back.callback(os.dup2, kept, number)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
            opened = os.open(name, flags | os.O_NOCTTY)
            os.dup2(opened, number)
            os.close(opened)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            back.callback(setattr, sys, name, getattr(sys, name))
            mode, errors = "w" if number else "r", "backslashreplace" if number == 2 else None
            stream = open(number, mode, errors=errors, closefd=False)  # noqa: SIM115  closed by it
            setattr(sys, name, back.enter_context(stream))
        back.callback(os.chdir, os.getcwd())
        os.chdir(folder)
        back.callback(_set_environment, dict(os.environ))
        _set_environment(environment)
        for logger in (logging.getLogger(), logging.getLogger("arcsm_cli")):
            back.callback(logger.setLevel, logger.level)
            back.callback(setattr, logger, "handlers", logger.handlers[:])
        back.callback(logging.captureWarnings, False)
        back.enter_context(warnings.catch_warnings())
        from arcsm_cli.training import loop

        # Validations of short runs are to be no longer than a few of their steps.
        back.enter_context(mock.patch.object(loop, "_FEWEST_VALIDATION_EXAMPLES", 24))
        warnings.resetwarnings()  # from the suite's filters to the interpreter's
        for category in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # some import has asked for it, and it is remembered


def _in_use(field: int) -> int:
    """Bytes of address space (0) or of resident memory (1) of this process."""
    pages = Path("/proc/self/statm").read_text().split()[field]
    return int(pages) * resource.getpagesize()
