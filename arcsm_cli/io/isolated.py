"""Readers that a damaged file can crash or send into a loop, in a process of their own.

The HDF5 library does both (division by zero, reads out of bounds, endless loops), and no check
made beforehand in Python could rule it out. So whatever reads a file through it runs in a process
that is forked off, with limits on its memory and processor time; what it finds comes back through
a pipe as JSON and plain numbers. When that process dies, the file is damaged, and nothing else is.
"""

import contextlib
import faulthandler
import functools
import io
import json
import math
import os
import resource
import select
import signal
import stat
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from arcsm_cli import errors
from arcsm_cli.errors import ArcsmError, DamagedInputError, UnavailableError

MEMORY = 1 << 30  # bytes that a reader may take, beside twice those asked for
SECONDS = 20.0  # of processor time for each request ...
RATE = 4 << 20  # ... and one more for as many bytes asked for
PATIENCE = 30  # times as long may pass until the next bytes come: a lock, a disk that is gone
_PLAIN = "biufc"  # kinds of arrays that are nothing but numbers
_PIPE = 1 << 20
_LONGEST = 64 << 20  # characters of an answer that is no array

# Those end the reader as they should, whatever this process does about them ...
_FATAL = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGPROF", "SIGPIPE", "SIGALRM")
# ... and those are for this process, which ends the reader itself.
_OTHERS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTSTP")


class Caller(Protocol):
    """Calls methods of an object in another process, as `Isolated.call` does."""

    def call(self, method: str, *arguments: Any, size: int = 0) -> Any:
        """See `Isolated.call`."""


class Isolated:
    """An object that lives in a process of its own, whose methods are called from here.

    Arguments:
        make: makes the object, in the other process.
        name: what messages call the file that it reads.

    Raises:
        ArcsmError: what ``make`` raises.
        DamagedInputError: the process died or went over its limits.
        UnavailableError: the system lets no process start.

    Example:
        >>> with contextlib.closing(Isolated(lambda: np.arange(3), "numbers")) as numbers:
        ...     numbers.call("sum"), numbers.call("repeat", 2)
        (3, array([0, 0, 1, 1, 2, 2]))
    """

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._seconds = SECONDS
        asking, self._requests = os.pipe()
        self._answers, answering = os.pipe()
        for end in (self._requests, answering):
            _widen(end)
        # A signal that arrived in between would find the other process with this one's handlers.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Python warns of forks beside threads; the child takes none of their locks.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                _serve(make, name, (asking, answering), (self._requests, self._answers))
        except OSError as error:
            os.close(self._requests)
            os.close(self._answers)
            raise UnavailableError(
                f"{name}: no process can be started to read it: {error.strerror}"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            os.close(asking)
            os.close(answering)
        self._end = weakref.finalize(self, _end, pid, self._requests, self._answers)
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any, size: int = 0, name: str = "") -> Any:
        """Call a method of the object.

        Arguments:
            method: its name.
            arguments: what JSON can express.
            size: bytes that the result will take, about.
            name: what messages call the file, if not as said at first.

        Returns:
            an array, or what JSON can express (tuples become lists).

        Raises:
            ArcsmError: what the method raises.
            DamagedInputError: the process died or went over its limits.
        """
        with self._lock:
            self._name, self._seconds = name or self._name, _seconds(size)
            try:
                self._send([method, arguments, size, self._name])
                return self._receive()
            except ArcsmError:
                raise
            except BaseException:  # an interruption: the answer would be that to the next request
                self.close()
                raise

    def close(self) -> None:
        """End the process; further calls find it dead."""
        self._end()

    def _send(self, request: Any) -> None:
        text = json.dumps(request).encode()
        with contextlib.suppress(BrokenPipeError):  # the answer will tell
            if self._end.alive:
                _write(self._requests, len(text).to_bytes(8, "little") + text)

    def _receive(self) -> Any:
        head = json.loads(self._take(int.from_bytes(self._take(8), "little")))
        kind = head.get("error")
        if kind is not None:
            raise getattr(errors, kind, RuntimeError)(head["message"])
        if "dtype" not in head:
            return head["value"]
        if np.dtype(head["dtype"]).kind not in _PLAIN:
            raise self._died()
        array = np.empty(head["shape"], head["dtype"])
        self._fill(array.reshape(-1).view(np.uint8).data)
        return array

    def _take(self, size: int) -> bytearray:
        if size > _LONGEST:
            raise self._died()
        buffer = bytearray(size)
        self._fill(memoryview(buffer))
        return buffer

    def _fill(self, view: memoryview) -> None:
        while view:
            if self._end.alive and not self._comes():
                self.close()
                raise UnavailableError(
                    f"{self._name}: its reader has waited for {PATIENCE * self._seconds:.0f} s: "
                    "for a disk that does not answer, or for a lock; try again"
                )
            count = os.readv(self._answers, [view]) if self._end.alive else 0
            if count == 0:
                raise self._died()
            view = view[count:]

    def _comes(self) -> bool:
        """Wait until there is something to read, the end too; return whether there is."""
        answers = select.poll()
        answers.register(self._answers, select.POLLIN)
        # Second by second: time in which a batch system has stopped both processes counts as one.
        return any(answers.poll(1000) for _ in range(math.ceil(PATIENCE * self._seconds)))

    def _died(self) -> DamagedInputError:
        code = self._end()
        reason = "its reader was ended"
        if code == -signal.SIGPROF:
            reason = "reading it takes far longer than its size explains"
        elif code is not None and code < 0:
            reason = f"its reader crashed ({signal.Signals(-code).name})"
        return DamagedInputError(f"{self._name}: is damaged: {reason}")


def _end(pid: int, requests: int, answers: int) -> int:
    """End the process; return its exit code, or minus the signal that ended it."""
    os.close(requests)
    os.close(answers)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # whoever forked this process, too, has a copy of this object
        return 0


def _serve(
    make: Callable[[], Any], name: str, own: tuple[int, int], others: tuple[int, int]
) -> NoReturn:
    """Be the other process: make the object and call its methods until nobody asks any more."""
    requests, answers = own
    try:
        for end in others:
            os.close(end)
        _settle(own)
        stream = io.FileIO(requests)
        found: list[Any] = []
        _answer(answers, lambda: found.append(make()), 0, name)
        while found and (head := stream.read(8)):
            text = b""
            while len(text) < int.from_bytes(head, "little"):
                part = stream.read(1 << 16)
                if not part:  # whoever asks was killed in the middle of it
                    os._exit(0)
                text += part
            method, arguments, size, name = json.loads(text)
            work = functools.partial(getattr(found[0], method), *arguments)
            _answer(answers, work, size, name)
    finally:
        os._exit(0)


def _settle(own: tuple[int, int]) -> None:
    """Take leave of the process that this one was forked off.

    Arguments:
        own: the pipes to stay open.
    """
    faulthandler.disable()
    for name in (*_FATAL, *_OTHERS):
        signal.signal(getattr(signal, name), signal.SIG_DFL if name in _FATAL else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # libraries complain there; and a reader of stdout waits for its end
        os.dup2(null, number)
    _close_shared(own)


def _close_shared(own: tuple[int, int]) -> None:
    """Close inherited pipes and sockets: someone may wait for the last of their ends to close.

    Files stay open: the one to be read may be named by its descriptor.
    """
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return
    for number in numbers:
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            mode = os.fstat(number).st_mode
            if number not in own and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os.close(number)


def _answer(answers: int, work: Callable[[], Any], size: int, name: str) -> None:
    """Do the work within its limits and send what comes of it."""
    _limit_memory(MEMORY + 2 * size)
    signal.setitimer(signal.ITIMER_PROF, _seconds(size))
    body: NDArray[Any] | None = None
    try:
        value = work()
        if isinstance(value, np.ndarray):
            body = np.asarray(value, order="C")
            if body.dtype.kind not in _PLAIN:  # anything else could be addresses
                raise TypeError(f"an array of {body.dtype}")
            head = {"dtype": body.dtype.str, "shape": body.shape}
        else:
            head = {"value": value.item() if isinstance(value, np.generic) else value}
    except ArcsmError as error:
        head = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"{name}: is damaged: reading it takes far more memory than its size explains"
        head = {"error": DamagedInputError.__name__, "message": message}
    except Exception as error:  # a mistake of ours, and told as one
        head = {"error": "", "message": f"{type(error).__name__}: {error}"}
    signal.setitimer(signal.ITIMER_PROF, 0)
    text = json.dumps(head).encode()
    _write(answers, len(text).to_bytes(8, "little") + text)
    if body is not None:
        _write(answers, body.reshape(-1).view(np.uint8).data)


def _seconds(size: int) -> float:
    """Return how long the processor may work on a request for so many bytes."""
    return SECONDS + size / RATE


def _limit_memory(size: int) -> None:
    if not sys.platform.startswith("linux"):  # others do not say how much is in use, or not obey
        return
    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = used + size if hard == resource.RLIM_INFINITY else min(hard, used + size)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _widen(pipe: int) -> None:
    """Let a pipe hold more, where the system can: blocks of samples take fewer turns."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
