"""Temporary files: ours while we live, removed by the next process after a kill."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arcsm_cli.io import scratch
from arcsm_cli.io.scratch import (
    scratch_file,
    scratch_folder,
    scratch_name,
    sweep,
    temporary_folder,
)


@pytest.fixture(autouse=True)
def _nothing_swept() -> Iterator[None]:
    """Folders are swept once a process, and each test is to be one."""
    scratch._swept.clear()
    yield
    scratch._swept.clear()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts processes that hold a scratch file of the stem ``out``."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from arcsm_cli.io.scratch import scratch_file\n"
        "with scratch_file(Path(sys.argv[1]), 'out') as path:\n"
        "    path.write_bytes(b'half')\n"
        "    print(path, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert Path(process.stdout.readline().strip()).exists()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_scratch_file_is_private_and_goes_with_the_context(tmp_path: Path) -> None:
    with scratch_file(tmp_path, "out") as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert left(tmp_path) == [path.name]
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, holder: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(left(tmp_path)) == 1
    with scratch_file(tmp_path, "out") as path:
        assert left(tmp_path) == [path.name]


def test_what_a_live_process_holds_stays(
    tmp_path: Path, holder: Callable[[], "subprocess.Popen[str]"]
) -> None:
    holder()
    with scratch_file(tmp_path, "out"):
        assert len(left(tmp_path)) == 2
    assert len(left(tmp_path)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "out",
        ".out.tmp",
        ".out.0123.tmp",
        ".other.{}.tmp",
        ".out.{}.tmp.h5",
        ".out.0123456789aG.tmp",
    ],
)
def test_other_files_are_nobody_s_leftovers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.format(scratch_name("x").split(".")[2])
    path.write_bytes(b"mine")
    sweep(tmp_path, "out")
    assert path.exists()


def test_folders_pipes_and_links_of_such_a_name_stay(tmp_path: Path) -> None:
    (tmp_path / scratch_name("out")).mkdir()
    os.mkfifo(tmp_path / scratch_name("out"))
    (tmp_path / scratch_name("out")).symlink_to("/etc/hostname")
    sweep(tmp_path, "out")
    assert len(left(tmp_path)) == 3


def test_files_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / scratch_name("out")).touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep(tmp_path, "out")
    assert len(left(tmp_path)) == 1


@pytest.mark.parametrize(("age", "stays"), [(3600.0, True), (8 * 24 * 3600.0, False)])
def test_files_of_other_machines_stay_for_a_week(tmp_path: Path, age: float, stays: bool) -> None:
    host, other = scratch._HOST, "0000" if scratch._HOST != "0000" else "1111"
    path = tmp_path / scratch_name("out").replace(f".{host}", f".{other}")
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path, "out")
    assert path.exists() == stays


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EAGAIN])
def test_without_locks_one_file_is_made_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / scratch_name("out")).touch()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with scratch_file(tmp_path, "out") as path:
        path.write_bytes(b"content")
        assert len(left(tmp_path)) == 2
    assert len(left(tmp_path)) == 1


def test_a_path_of_another_number_than_the_open_file_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat("/"))
    with scratch_file(tmp_path, "out") as path:
        assert left(tmp_path) == [path.name]
    assert left(tmp_path) == []


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_file(tmp_path, "out") as path:
        assert left(tmp_path) == [path.name]
        assert path != taken[0]


def test_a_file_that_another_process_looks_at_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, tries = fcntl.flock, []

    def busy(descriptor: int, operation: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", busy)
    with scratch_file(tmp_path, "out") as path:
        assert left(tmp_path) == [path.name]
    assert len(tries) == 2


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    sweep(tmp_path / "missing", "out")


def test_a_scratch_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "set", alone=False) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert left(tmp_path) == []


@pytest.mark.parametrize("alone", [True, False])
def test_leftover_folders_are_removed_by_who_is_alone(tmp_path: Path, alone: bool) -> None:
    leftover, other = tmp_path / scratch_name("set"), tmp_path / scratch_name("other")
    (leftover / "deep").mkdir(parents=True)
    other.mkdir()
    with scratch_folder(tmp_path, "set", alone=alone) as folder:
        assert leftover.exists() == (not alone)
        assert folder.exists()
        assert other.exists()


def test_the_temporary_folder_is_that_of_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary_folder() == tmp_path
    assert left(tmp_path) == []


def test_a_tmpdir_that_is_not_there_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TEMP", str(tmp_path))
    assert temporary_folder() == tmp_path
