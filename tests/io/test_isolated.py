"""Readers in a process of their own."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcsm_cli.errors import DamagedInputError, MissingInputError, UnavailableError
from arcsm_cli.io import isolated
from arcsm_cli.io.isolated import Isolated


class Reader:
    """What a reader may do, and what it may not."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def echo(self, value: Any) -> Any:
        return value

    def ones(self, *shape: int, kind: str = "<f4") -> Any:
        return np.ones(shape, kind)

    def objects(self) -> Any:
        return np.array([{}, []], dtype=object)

    def pid(self) -> int:
        return os.getpid()

    def die(self, name: str) -> None:
        os.kill(os.getpid(), getattr(signal, name))

    def leave(self) -> None:
        os._exit(0)

    def loop(self) -> None:
        while True:
            pass

    def work(self, seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def wait(self) -> None:
        time.sleep(3600)

    def gorge(self, size: int) -> int:
        return len(bytearray(size))

    def refuse(self) -> None:
        raise MissingInputError("file: is not there")

    def stumble(self) -> float:
        return 1 / 0

    def complain(self) -> None:
        os.write(1, b"out")
        os.write(2, b"err")


@pytest.fixture
def reader() -> Iterator[Isolated]:
    with closing(Isolated(Reader, "file")) as found:
        yield found


def test_the_object_lives_in_one_other_process(reader: Isolated) -> None:
    assert reader.call("pid") == reader.call("pid") != os.getpid()
    assert [reader.call("count") for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("value", [None, 1, "text\n\u2028", [1, {"a": None}], "x" * 3_000_000])
def test_what_json_can_say_comes_back(reader: Isolated, value: object) -> None:
    assert reader.call("echo", value) == value


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (3, 2), (1 << 21,)])
def test_arrays_come_back(reader: Isolated, shape: tuple[int, ...]) -> None:
    found = reader.call("ones", *shape, size=1 << 23)
    assert found.dtype == np.float32
    assert found.shape == shape
    assert (found == 1).all()


def test_an_array_of_addresses_does_not_come_back(reader: Isolated) -> None:
    with pytest.raises(RuntimeError, match="object"):
        reader.call("objects")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS"])
def test_a_crash_is_a_damaged_file(reader: Isolated, name: str) -> None:
    with pytest.raises(DamagedInputError, match=rf"^file: is damaged: .*crashed \({name}\)$"):
        reader.call("die", name)
    with pytest.raises(DamagedInputError, match="file"):
        reader.call("count")


def test_a_quiet_end_is_a_damaged_file(reader: Isolated) -> None:
    with pytest.raises(DamagedInputError, match="file: is damaged: its reader was ended"):
        reader.call("leave")


def test_a_reader_that_waits_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 0.01)
    with (
        closing(Isolated(Reader, "file")) as reader,
        pytest.raises(UnavailableError, match="file: its reader has waited"),
    ):
        reader.call("wait")


def test_an_endless_loop_is_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 0.2)
    with (
        closing(Isolated(Reader, "file")) as reader,
        pytest.raises(DamagedInputError, match=r"file: .* takes far longer than its size"),
    ):
        reader.call("loop")


def test_time_counts_from_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 0.2)
    with closing(Isolated(Reader, "file")) as reader:
        for _ in range(3):
            reader.call("work", 0.1)


def test_too_much_memory_is_a_damaged_file(reader: Isolated) -> None:
    with pytest.raises(DamagedInputError, match=r"file: .* takes far more memory"):
        # Far more: the process that the reader is forked off may hold memory that it does not use.
        reader.call("gorge", isolated.MEMORY + (4 << 30))
    assert reader.call("count") == 1  # nothing was harmed


@pytest.mark.slow
def test_more_memory_is_given_to_whom_more_is_asked_of(reader: Isolated) -> None:
    size = isolated.MEMORY + (1 << 28)
    assert reader.call("gorge", size, size=size) == size


def test_errors_that_the_reader_raises_arrive(reader: Isolated) -> None:
    with pytest.raises(MissingInputError, match=r"^file: is not there$"):
        reader.call("refuse")


def test_mistakes_of_the_reader_are_no_damage(reader: Isolated) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        reader.call("stumble")


def test_errors_on_opening_arrive_and_leave_no_process(tmp_path: Path) -> None:
    def refuse() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        raise DamagedInputError("file: no")

    with pytest.raises(DamagedInputError, match=r"^file: no$"):
        Isolated(refuse, "file")
    assert gone(int((tmp_path / "pid").read_text()))


def test_complaints_of_libraries_are_not_heard(
    reader: Isolated, capfd: pytest.CaptureFixture[str]
) -> None:
    reader.call("complain")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_signals_to_all_processes_are_for_the_first(reader: Isolated, name: str) -> None:
    os.kill(reader.call("pid"), getattr(signal, name))
    assert reader.call("count") == 1


def test_an_interrupted_answer_is_not_that_to_the_next_question(reader: Isolated) -> None:
    class Interruption(BaseException): ...

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interruption):
            reader.call("loop")
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(DamagedInputError):
        reader.call("count")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("end", [Isolated.close, lambda found: None], ids=["closed", "dropped"])
def test_the_process_ends_with_the_object(end: Callable[[Isolated], object]) -> None:
    found = Isolated(Reader, "file")
    pid = found.call("pid")
    end(found)
    del found
    assert gone(pid)


def test_the_process_ends_with_its_maker() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, str(Isolated(Reader, "file").call("pid")).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    reader = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    deadline = time.monotonic() + 30
    while not gone(reader) and "Z" not in _state(reader) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(reader) or "Z" in _state(reader)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_no_process_to_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnavailableError, match="file: no process can be started"):
        Isolated(Reader, "file")
    assert len(os.listdir("/proc/self/fd")) == before


def test_others_see_the_end_of_pipes_that_the_maker_closes() -> None:
    here, there = os.pipe()
    with closing(Isolated(Reader, "file")) as reader:
        os.close(there)
        assert os.read(here, 1) == b""
        assert reader.call("count") == 1
    os.close(here)


def test_files_named_by_their_descriptor_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with open(path, "rb") as file:
        named = f"/dev/fd/{file.fileno()}"
        with closing(Isolated(lambda: Path(named).read_bytes().decode(), "file")) as reader:
            assert reader.call("upper") == "CONTENT"
