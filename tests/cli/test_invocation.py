"""From an exception to an exit code and one line on stderr."""

import errno
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli import errors
from arcsm_cli.cli.invocation import invocation, one_line, provenance_entry, run_program
from arcsm_cli.cli.log import configure
from arcsm_cli.cli.signals import SignalGuard, SignalInterrupt

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ArcsmError)
]

Answer = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs a function as the command ``test``; returns the exit code, stdout and stderr."""

    def runner(body: Callable[[], object], *arguments: str) -> Answer:
        def program(_: list[str]) -> object:
            invocation().command = "test"
            return body()

        code = run_program(program, ["test", *arguments], SignalGuard())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return runner


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_ends_with_its_exit_code_and_its_line(
    kind: type[errors.ArcsmError], run: Callable[..., Answer]
) -> None:
    assert run(raising(kind("m.h5: what is wrong"))) == (
        kind.exit_code,
        "",
        "arcsm test: m.h5: what is wrong\n",
    )


def test_success_ends_with_0(run: Callable[..., Answer]) -> None:
    assert run(lambda: None) == (0, "", "")


def test_a_line_stays_one_line_whatever_it_quotes(run: Callable[..., Answer]) -> None:
    _, _, err = run(raising(errors.DamagedInputError("a\nb\x1b[31m\r.h5: damaged")))
    assert err == "arcsm test: a b\\x1b[31m .h5: damaged\n"


@given(st.text())
def test_one_line_is_printable(text: str) -> None:
    assert one_line(text).isprintable()


def test_an_internal_error_asks_to_run_again_with_debug(run: Callable[..., Answer]) -> None:
    code, _, err = run(raising(KeyError("key")))
    assert (code, err.count("\n")) == (1, 1)
    assert "KeyError" in err
    assert "--debug" in err


@pytest.mark.parametrize("error", [KeyError("key"), errors.DamagedInputError("m.h5: damaged")])
def test_debug_shows_the_traceback(error: Exception, run: Callable[..., Answer]) -> None:
    assert "Traceback (most recent call last)" in run(raising(error), "--debug")[2]


@pytest.mark.parametrize("error", [KeyError("key"), errors.DamagedInputError("m.h5: damaged")])
def test_there_is_no_traceback_without_debug(error: Exception, run: Callable[..., Answer]) -> None:
    assert "Traceback" not in run(raising(error), "--", "--debug")[2]


def test_a_closed_pipe_ends_quietly(run: Callable[..., Answer]) -> None:
    assert run(raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == (0, "", "")


def test_an_interrupt_ends_with_130(run: Callable[..., Answer]) -> None:
    assert run(raising(KeyboardInterrupt())) == (130, "", "arcsm test: interrupted\n")


def test_a_signal_after_everything_was_saved_still_ends_with_75(
    run: Callable[..., Answer],
) -> None:
    def body() -> None:
        try:
            raise errors.StoppedEarly("saved")
        finally:
            raise SignalInterrupt(15)

    assert run(body)[0] == 75


def test_an_error_that_a_signal_brought_about_counts_as_the_signal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guard = SignalGuard()

    def program(_: list[str]) -> None:
        guard.received = True
        raise AttributeError("half imported")

    assert run_program(program, [], guard) == 130
    assert "half imported" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")]
)
def test_too_little_memory_is_something_not_available(
    error: Exception, run: Callable[..., Answer]
) -> None:
    code, _, err = run(raising(error))
    assert code == 69
    assert "--batch-size" in err


def test_a_full_disk_under_stdout_is_an_output_error(run: Callable[..., Answer]) -> None:
    code, _, err = run(raising(OSError(errno.ENOSPC, "No space left on device")))
    assert (code, err.count("\n")) == (73, 1)


def test_provenance_holds_the_command_line_as_typed(run: Callable[..., Answer]) -> None:
    entry: dict[str, Any] = {}
    run(lambda: entry.update(provenance_entry(seed=3, inputs={"a": "0"})), "a b", "--flag")
    assert entry["command"] == "test"
    assert entry["arguments"] == ["a b", "--flag"]
    assert (entry["seed"], entry["inputs"]) == (3, {"a": "0"})


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ({"quiet": True, "verbose": 0}, ["error"]),
        ({"quiet": False, "verbose": 0}, ["warning", "error"]),
        ({"quiet": False, "verbose": 1}, ["info", "warning", "error"]),
        ({"quiet": False, "verbose": 2}, ["debug", "info", "warning", "error"]),
        ({"quiet": False, "verbose": 9}, ["debug", "info", "warning", "error"]),
    ],
)
def test_verbosity_selects_what_is_logged(
    settings: dict[str, Any], levels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure("arcsm test", **settings)
    log = logging.getLogger("arcsm_cli.somewhere")
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("said as %s", level)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == levels
    assert all(line.startswith("arcsm test: ") for line in lines)


def test_warnings_of_libraries_are_for_the_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    configure("arcsm test", quiet=False, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("deprecated since yesterday", stacklevel=1)
    logging.captureWarnings(False)
    assert capsys.readouterr().err == ""
