"""Runs one command: exit codes, one-line errors, standard streams, and what is known of the run.

`run_program` is the one place where an exception becomes an exit code. Commands raise the errors
of `arcsm_cli.errors` and never print an error or exit themselves. What the frame knows of the
run (command, arguments, ``-q``, ``-v``, ``--debug``) is `invocation`.
"""

import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from arcsm_cli.cli.signals import SignalGuard
from arcsm_cli.distributed.launch import Launch
from arcsm_cli.errors import (
    ArcsmError,
    Interrupted,
    OutputError,
    StoppedEarly,
    UnavailableError,
    UsageError,
)
from arcsm_cli.extras import missing_extra


@dataclass
class Invocation:
    """What the frame knows of the command that is running."""

    command: str = ""  # "" until the command line has been read as far as its name
    arguments: list[str] = field(default_factory=list)  # after the program's name, as typed
    quiet: bool = False
    verbose: int = 0
    debug: bool = False
    config: str | None = None  # the file of --config
    plugins: dict[str, str] = field(default_factory=dict)  # files of --plugin, as it names them
    said: float | None = None  # when a line last told how far it is, or it began, in seconds
    launch: Launch = field(default_factory=Launch)  # which of the processes of the command this is

    @property
    def name(self) -> str:
        """The program and its command, as messages begin: ``arcsm train``."""
        return f"arcsm {self.command}".rstrip()

    @property
    def speaker(self) -> str:
        """What messages begin with: the name, and which process speaks if not the first."""
        launch = self.launch
        return self.name if launch.is_first else f"{self.name} (rank {launch.rank})"


_invocation = Invocation()


def invocation() -> Invocation:
    """The running command."""
    return _invocation


def one_line(text: object) -> str:
    """`text` on one line, without control characters (file contents may hold escape sequences)."""
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def provenance_entry(
    *, seed: int | None = None, inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The provenance entry of the running command.

    Arguments:
        seed: The seed that the outcome depends on, if any.
        inputs: SHA-256 of each input by its name on the command line. A ``--config`` file and
            plugins are added here, since they decide the outcome as the options do.
    """
    from arcsm_cli.io.provenance import make_entry, sha256_file

    digests = dict(inputs or {})
    if _invocation.config is not None:
        digests[_invocation.config] = sha256_file(_invocation.config)
    for name, file in _invocation.plugins.items():
        digests[f"--plugin {name}"] = sha256_file(file)
    return make_entry(
        command=_invocation.command,
        arguments=_invocation.arguments[1:],  # the first one is the command
        seed=seed,
        inputs=digests,
        processes=_invocation.launch.size,
    )


def run_program(
    program: Callable[[list[str]], object], arguments: list[str], signals: SignalGuard
) -> int:
    """Calls `program` with `arguments`; returns the exit code, having reported any error.

    Arguments:
        program: Reads the command line and runs the command. It may return an exit code.
        arguments: The command line after the program's name.
        signals: Raises what ends the run from outside; told when the outcome is known.
    """
    global _invocation
    _invocation = Invocation(arguments=list(arguments), debug=_asks_for_debug(arguments))
    try:
        _secure_streams()
        result = program(arguments)
        _flush_stdout()
        signals.hold()
        code = result if isinstance(result, int) else 0
    except BaseException as error:
        signals.hold()
        code = _answer(error, interrupted=signals.received)
    signals.finish(code)
    return code


def call_program(program: Callable[[list[str]], object], arguments: list[str]) -> None:
    """Runs a command for Python code: errors are raised, and logging is put back as it was.

    Raises:
        ArcsmError: what the command refuses.
    """
    global _invocation
    before, root = _invocation, logging.getLogger()
    handlers, levels = root.handlers[:], [root.level, logging.getLogger("arcsm_cli").level]
    _invocation = Invocation(arguments=list(arguments))
    try:
        program(arguments)
    except Exception as error:
        known = _as_arcsm_error(error)
        if known is None or known is error:
            raise
        raise known from error
    finally:
        _invocation, root.handlers = before, handlers
        logging.captureWarnings(False)
        root.setLevel(levels[0])
        logging.getLogger("arcsm_cli").setLevel(levels[1])


def _asks_for_debug(arguments: list[str]) -> bool:
    """Whether ``--debug`` is there, found without a parser: parsing itself may fail."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--debug" in options


def _answer(error: BaseException, *, interrupted: bool) -> int:
    """Reports what ended the run; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        _abandon_stdout()  # whoever read our output has enough of it
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    _flush_or_abandon_stdout()
    known = _as_arcsm_error(error)
    if interrupted and not isinstance(known, StoppedEarly | Interrupted):
        # A library may turn the interruption into an error of its own, and imports do.
        known = Interrupted("interrupted by a signal")
    if isinstance(known, StoppedEarly) and not _invocation.launch.is_first:
        return known.exit_code  # all of them stop together, and the first one says so
    if _invocation.debug:
        _complain("".join(traceback.format_exception(error)).rstrip())
    if known is None:
        _complain(
            f"{_invocation.speaker}: internal error: {type(error).__name__}: {one_line(error)}"
            + ("" if _invocation.debug else " (run again with --debug for the traceback)")
        )
        return 1
    _complain(f"{_invocation.speaker}: {one_line(known)}")
    return known.exit_code


def _as_arcsm_error(error: BaseException) -> ArcsmError | None:
    """`error` in the terms of the contract; None for an error that is ours."""
    if isinstance(error, ArcsmError):
        return error
    if (how := missing_extra(error)) is not None:
        return UnavailableError(how)
    if isinstance(error, KeyboardInterrupt):
        if isinstance(error.__context__, StoppedEarly):
            return error.__context__  # a repeated signal; everything had been saved
        return Interrupted("interrupted" + (f" by {error}" if str(error) else ""))
    if callable(getattr(error, "format_message", None)) and hasattr(error, "exit_code"):
        return UsageError(_usage_message(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EBADF):
        # Where a file is written, its name is known and the error raised; left is a stream.
        return _stdout_failure(error)
    if _is_out_of_memory(error):
        return UnavailableError(
            "out of memory; a smaller --batch-size, or another --device, needs less"
        )
    return None


def _usage_message(error: BaseException) -> str:
    """Typer's message on a wrong command line, with a pointer to what would be right."""
    text = one_line(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    text = text[:1].lower() + text[1:]
    if "Did you mean" in text or "(Possible options" in text:
        return text.replace("(Possible options: ", "(did you mean ").replace(
            ". Did you mean", ", did you mean"
        )
    return f"{text} (see '{_invocation.name} --help')"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, found without importing PyTorch."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _complain(text: str) -> None:
    """Writes to stderr, if there is anyone to read it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence_stderr()  # nobody can be told; the exit code still says it


def silence_stderr() -> None:
    """Drops what is written to stderr from now on: its reader is gone, the work need not stop."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  stays open to the end


def _secure_streams() -> None:
    """Makes the standard streams safe to use, however the program was started."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next file opened would get this number
            # Opened for reading, a closed stdout refuses results rather than lose them.
            os.dup2(os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY), number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  as above
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # PYTHONUNBUFFERED: text written there is cut short, without an error, where a disk fills.
        sys.stdout = open(sys.stdout.fileno(), "w", closefd=False)  # noqa: SIM115  as above
    for stream in (sys.stdout, sys.stderr):
        # Any name of a file can be printed, whatever the locale.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush_stdout() -> None:
    """Writes out what is buffered, here and not at the interpreter's end, so that errors count."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _abandon_stdout()
        raise _stdout_failure(error) from error


def _stdout_failure(error: OSError) -> OutputError:
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
    return OutputError(f"standard output: cannot be written: {reason}")


def _flush_or_abandon_stdout() -> None:
    try:
        _flush_stdout()
    except (OSError, ArcsmError):
        _abandon_stdout()


def _abandon_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter's end is quiet too."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # not a real file: there is nothing to redirect
        os.dup2(null, sys.stdout.fileno())
    os.close(null)
