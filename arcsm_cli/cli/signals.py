"""Signals: an exception that unwinds the program, or a flag that a training loop polls."""

import atexit
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

# A second signal within this time is taken for impatience with a cleanup that is under way; after
# it, for a program that did not stop (an exception can be lost in a destructor or a callback).
_PATIENCE = 5.0  # seconds

_POSTPONEMENT = 0.02  # seconds

_Handler = Callable[[int, FrameType | None], object] | int | None

# By name: not every platform has all of them. Schedulers announce a job's end by whichever of them
# the site has chosen.
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


class SignalInterrupt(KeyboardInterrupt):
    """A signal asked the program to end.

    Not an ``Exception``, so that no ``except Exception`` on the way swallows it; every context
    manager on the way removes what it had begun.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class SignalGuard:
    """Makes SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 raise `SignalInterrupt`.

    They do so in the main thread. A repeated signal while the first one is being answered changes
    nothing. Forked workers end as they would without it.

    Attributes:
        received: Whether a signal came before `hold`.
    """

    def __init__(self) -> None:
        self.received = False
        self._process = os.getpid()
        self._raised_at = -math.inf
        self._holding = False
        self._exit_code: int | None = None
        self._before: dict[int, _Handler] = {}

    def install(self) -> None:
        """Begins to raise."""
        self._before = _replace(_ENDING, self._handle)
        # The interpreter's last steps take no handlers, and would die of a signal after all.
        atexit.register(_replace, _ENDING, signal.SIG_IGN)

    def hold(self) -> None:
        """Raises no more: the outcome is known and being reported."""
        self._holding = True

    def finish(self, exit_code: int) -> None:
        """From now on a signal ends the process at once, with the exit code that it has earned."""
        self._exit_code = exit_code

    def restore(self) -> None:
        """Puts back the handlers that were there before."""
        atexit.unregister(_replace)
        _restore(self._before)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _end_as_usual(signum)
        elif self._exit_code is not None:
            os._exit(self._exit_code)
        elif self._holding or time.monotonic() - self._raised_at < _PATIENCE:
            return
        elif _is_in_tempfile(frame):
            # A temporary folder is being made or removed; interrupted there, it would stay.
            timer = threading.Timer(_POSTPONEMENT, os.kill, (self._process, signum))
            timer.daemon = True
            timer.start()
        else:
            self.received = True
            self._raised_at = time.monotonic()
            raise SignalInterrupt(signum)


def _is_in_tempfile(frame: FrameType | None) -> bool:
    """Whether a function of Python's module `tempfile` is being executed."""
    module = sys.modules.get("tempfile")
    while module is not None and frame is not None:
        if frame.f_code.co_filename == module.__file__:
            return True
        frame = frame.f_back
    return False


def _replace(names: tuple[str, ...], handler: _Handler) -> dict[int, _Handler]:
    """Installs `handler` for the signals that are not ignored; returns what was there before."""
    before: dict[int, _Handler] = {}
    if threading.current_thread() is not threading.main_thread():
        return before  # Python delivers signals to the main thread only
    for name in names:
        number = getattr(signal, name, None)
        # A signal ignored from outside (nohup, a background job of a script) stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    return before


def _restore(before: dict[int, _Handler]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _end_as_usual(signum: int) -> None:
    """Ends a forked worker as if it had not inherited our handlers."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


class StopFlag:
    """Turns the signals of `SignalGuard` into a flag that a loop polls between steps.

    A second SIGINT aborts at once with `SignalInterrupt`; repetitions of the others change
    nothing. Saving belongs inside the ``with`` block, where a late signal cannot break it.

    Example:
        >>> with StopFlag() as stop:
        ...     for step in range(3):
        ...         if stop:
        ...             break
        >>> bool(stop), stop.reason
        (False, '')
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._interrupts = 0
        self._before: dict[int, _Handler] = {}
        self._process = os.getpid()

    def __bool__(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._signum is not None

    @property
    def reason(self) -> str:
        """Name of the signal that asked to stop, such as ``SIGTERM``; empty while none has."""
        return "" if self._signum is None else signal.Signals(self._signum).name

    def __enter__(self) -> Self:
        self._before = _replace(_ENDING, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _restore(self._before)
        self._before = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # Ctrl-C reaches the forked workers too: they go on until the loop stops them.
            if signum != signal.SIGINT:
                _end_as_usual(signum)
            return
        if self._signum is None:
            self._signum = signum
        if signum == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise SignalInterrupt(signum)
