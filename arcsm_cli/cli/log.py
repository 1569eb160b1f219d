"""Logging to stderr: one line a message, ``arcsm COMMAND: message``."""

import logging
import sys
from collections.abc import Callable

from arcsm_cli.cli.invocation import silence_stderr
from arcsm_cli.notices import NOTICE

_LEVELS = {-1: logging.ERROR, 0: NOTICE, 1: logging.INFO, 2: logging.DEBUG}

# A progress bar redraws the last line of the terminal; while one does, it prints for us.
_printer: Callable[[str], None] | None = None


def set_printer(printer: Callable[[str], None] | None) -> None:
    """Sends messages through `printer` (a live progress bar's), or to stderr with None."""
    global _printer
    _printer = printer


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        try:
            if _printer is not None:
                _printer(line)
            else:
                print(line, file=sys.stderr, flush=True)
        except OSError:
            silence_stderr()


class _LineFormatter(logging.Formatter):
    """Begins as errors do, and names the level where it is a warning or worse."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = " ".join(record.getMessage().split())
        line = f"{self._name}: {level}{text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(name: str, *, quiet: bool, verbose: int) -> None:
    """Sets up logging for one run.

    Arguments:
        name: What every line begins with, such as ``arcsm train``.
        quiet: Errors only.
        verbose: 0 shows warnings and notices, 1 also what is being done, 2 also details and the
            warnings of the libraries underneath.
    """
    level = _LEVELS[-1 if quiet else min(verbose, 2)]
    handler = _StderrHandler()
    handler.setFormatter(_LineFormatter(name))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level if verbose >= 2 else max(level, logging.WARNING))
    logging.getLogger("arcsm_cli").setLevel(level)
    logging.captureWarnings(True)
    # What a library warns its programmers of is of no use to whoever runs a command.
    logging.getLogger("py.warnings").setLevel(logging.DEBUG if verbose else logging.ERROR)
