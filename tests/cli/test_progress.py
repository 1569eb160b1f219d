"""Progress away from a terminal: rarely, plainly, and not at all with -q."""

import time

import pytest

from arcsm_cli.cli.invocation import invocation
from arcsm_cli.cli.progress import LINE_INTERVAL, LineBar, progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(invocation(), "said", None)
    return Clock()


def test_a_short_loop_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = LineBar(10, "training", clock=clock)
    for _ in range(10):
        clock.now += 1
        bar.update(loss=0.5)
    assert capsys.readouterr().err == ""


def test_a_line_at_most_every_thirty_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LineBar(1000, "training", clock=clock)
    for _ in range(100):
        clock.now += 1
        bar.update(loss=0.5)
    assert capsys.readouterr().err.count("\n") == 100 // LINE_INTERVAL


def test_two_bars_share_the_thirty_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(10):
        bar = LineBar(10, "an epoch", clock=clock)
        for _ in range(10):
            clock.now += 0.5
            bar.update()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_line_tells_steps_figures_rate_and_remaining_time(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LineBar(400, "training", clock=clock)
    clock.now += 50
    bar.update(100, loss=0.5712345, stage="2/3")
    line = capsys.readouterr().err
    assert line.endswith("training 100/400, loss 0.5712, stage 2/3, 2/s, 2:30 left\n")


def test_without_a_total_no_remaining_time_is_claimed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LineBar(None, "reading", clock=clock)
    clock.now += 60
    bar.update(120)
    assert capsys.readouterr().err.endswith("reading 120, 2/s\n")


def test_steps_of_an_earlier_run_count_as_done_but_not_in_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = LineBar(200, "training", done=100, clock=clock)
    clock.now += 50
    bar.update(50)
    assert "training 150/200, 1/s, 0:50 left" in capsys.readouterr().err


def test_hours_are_told_as_hours(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = LineBar(7300, "training", clock=clock)
    clock.now += 40
    bar.update(40)
    assert capsys.readouterr().err.endswith("2:01:00 left\n")


def test_lines_hold_no_control_characters(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = LineBar(10, "training", clock=clock)
    clock.now += 60
    bar.update(loss=0.1)
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


def test_quiet_says_nothing_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(invocation(), "said", time.monotonic() - 3600)
    monkeypatch.setattr(invocation(), "quiet", True)
    with progress(10, "training") as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_the_caller_can_ask_for_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(invocation(), "said", time.monotonic() - 3600)
    with progress(10, "training", quiet=True) as bar:
        bar.update()
    assert capsys.readouterr().err == ""
