"""Progress on stderr: a bar on a terminal, else a plain line now and then."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from arcsm_cli.cli import log
from arcsm_cli.cli.invocation import invocation, silence_stderr

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_INTERVAL = 30.0  # seconds between plain lines, over all the bars of a run


class Bar:
    """What a loop reports its steps to; this one shows nothing."""

    def update(self, steps: int = 1, **figures: float | str) -> None:
        """Reports `steps` more steps done, and the latest figures, such as ``loss=0.57``."""


@contextmanager
def progress(
    total: int | None, description: str, quiet: bool | None = None, *, done: int = 0
) -> Iterator[Bar]:
    """Shows how far a loop is.

    Arguments:
        total: Steps in all; None where nobody knows.
        description: What is being done, in a word or two.
        quiet: Show nothing; by default what ``-q`` says.
        done: Steps already done by an earlier run.

    Example:
        >>> with progress(2, "counting", quiet=True) as bar:
        ...     for _ in range(2):
        ...         bar.update(loss=0.5)
    """
    if invocation().quiet if quiet is None else quiet:
        yield Bar()
    elif _is_terminal():
        with _live_bar(total, description, done) as bar:
            yield bar
    else:
        yield LineBar(total, description, done)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class LineBar(Bar):
    """Prints a plain line at most every 30 seconds, without control characters."""

    def __init__(
        self,
        total: int | None,
        description: str,
        done: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._description = total, description
        self._done = self._before = done
        self._clock = clock
        self._start = clock()
        if invocation().said is None:
            invocation().said = self._start

    def update(self, steps: int = 1, **figures: float | str) -> None:
        self._done += steps
        now, said = self._clock(), invocation().said
        if said is not None and now - said < LINE_INTERVAL:
            return
        invocation().said = now
        try:
            print(self._line(now, figures), file=sys.stderr, flush=True)
        except OSError:
            silence_stderr()

    def _line(self, now: float, figures: dict[str, float | str]) -> str:
        elapsed = max(now - self._start, 1e-9)
        rate = (self._done - self._before) / elapsed
        of = "" if self._total is None else f"/{self._total}"
        parts = [f"{invocation().name}: {self._description} {self._done}{of}"]
        parts += [_figures(figures)] if figures else []
        parts.append(f"{rate:.3g}/s")
        if self._total is not None and rate > 0:
            parts.append(f"{_clock_time((self._total - self._done) / rate)} left")
        return ", ".join(parts)


def _figures(figures: dict[str, float | str]) -> str:
    return ", ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}"
        for name, value in figures.items()
    )


def _clock_time(seconds: float) -> str:
    minutes, second = divmod(round(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _LiveBar(Bar):
    def __init__(self, display: "Progress", task: "TaskID") -> None:
        self._display, self._task = display, task

    def update(self, steps: int = 1, **figures: float | str) -> None:
        # Passing no figures keeps the last ones.
        shown: dict[str, Any] = {"figures": _figures(figures)} if figures else {}
        self._display.update(self._task, advance=steps, **shown)


@contextmanager
def _live_bar(total: int | None, description: str, done: int) -> Iterator[Bar]:
    from rich import progress as rich_progress
    from rich.console import Console

    class Speed(rich_progress.TaskProgressColumn):
        def render(self, task: rich_progress.Task) -> Any:
            return self.render_speed(task.finished_speed or task.speed)

    console = Console(stderr=True, highlight=False)
    display = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=None),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[figures]}", markup=False),
        Speed(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,  # a finished bar would be left between the lines of a pipeline
        redirect_stdout=False,  # stdout carries results, untouched
        redirect_stderr=False,
    )
    with display:
        task = display.add_task(description, total=total, completed=done, figures="")
        log.set_printer(lambda line: console.print(line, markup=False, soft_wrap=True))
        try:
            yield _LiveBar(display, task)
        finally:
            log.set_printer(None)
