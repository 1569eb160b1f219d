"""Outputs appear whole or not at all."""

import errno
import io
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from arcsm_cli.errors import OutputError
from arcsm_cli.io.atomic import atomic_output, check_output


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def replaced_stdout(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    buffer = io.BytesIO()
    fake = SimpleNamespace(buffer=buffer, isatty=lambda: False)
    monkeypatch.setattr(sys, "stdout", fake)
    return buffer


def test_the_target_appears_whole_at_the_end_and_nothing_else_remains(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_output(str(target)) as path:
        path.write_bytes(b"content")
        assert names(tmp_path) == [path.name]
        assert path.name.startswith(".out.")
        assert path.name.endswith(".tmp")
    assert target.read_bytes() == b"content"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with atomic_output(str(tmp_path / "out")) as path:
            path.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic_output(str(target), force=True) as path:
            path.write_bytes(b"half")
            raise ValueError("deliberate")

    with pytest.raises(ValueError, match="deliberate"):
        write()
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(("number", "left"), [(signal.SIGKILL, 1), (signal.SIGINT, 0)])
def test_a_writer_that_is_ended_leaves_no_target(
    tmp_path: Path, number: signal.Signals, left: int
) -> None:
    child = os.fork()
    if child == 0:
        try:
            with atomic_output(str(tmp_path / "out")) as path:
                path.write_bytes(b"half")
                os.kill(os.getpid(), number)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert len(names(tmp_path)) == left
    assert not (tmp_path / "out").exists()


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        check_output(str(target), force=False)


def test_force_replaces_an_existing_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with atomic_output(str(target), force=True) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_output(str(tmp_path / "out")) as path:
        path.write_bytes(b"new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write() -> None:
        with atomic_output(str(target)) as path:
            path.write_bytes(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        write()
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_file_systems_without_hard_links_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with atomic_output(str(tmp_path / "out")) as path:
        path.write_bytes(b"content")
    assert names(tmp_path) == ["out"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_output(str(tmp_path / "link"), force=True) as path:
        path.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with atomic_output(str(target)) as path:
        path.write_bytes(b"content")
    assert target.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["", "missing/out", "file/out", "folder", "folder/", "n" * 256])
def test_a_place_that_cannot_hold_a_file_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as caught:
        check_output(name, force=True)
    assert "\n" not in str(caught.value)


def test_a_nul_in_the_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        check_output(f"{tmp_path}/a\0b", force=False)


def test_an_unwritable_folder_is_refused(tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(str(small_disk / "out"), force=False)


def test_a_full_disk_is_an_output_error(small_disk: Path) -> None:
    def write() -> None:
        with atomic_output(str(small_disk / "out")) as path:
            path.write_bytes(bytes(1 << 20))

    with pytest.raises(OutputError, match="No space left"):
        write()
    assert names(small_disk) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_refusals_of_the_system_name_the_target(tmp_path: Path, number: int) -> None:
    def write() -> None:
        with atomic_output(str(tmp_path / "out")):
            raise OSError(number, "a message\nof two lines")

    with pytest.raises(OutputError, match=r"/out: cannot be written") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_failing_sync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)

    def write() -> None:
        with atomic_output(str(tmp_path / "out")) as path:
            path.write_bytes(b"content")

    with pytest.raises(OutputError):
        write()
    assert names(tmp_path) == []


def test_errors_about_other_files_are_left_alone(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_output(str(tmp_path / "out")):
            (tmp_path / "other").read_bytes()

    with pytest.raises(FileNotFoundError):
        write()


def test_standard_output_gets_the_bytes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = replaced_stdout(monkeypatch)
    with atomic_output("-") as path:
        path.write_bytes(b"content")
        assert buffer.getvalue() == b""
    assert buffer.getvalue() == b"content"
    assert not path.exists()


def test_standard_output_that_takes_parts_gets_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = replaced_stdout(monkeypatch)
    write = buffer.write
    monkeypatch.setattr(sys.stdout, "buffer", SimpleNamespace(flush=lambda: None))
    monkeypatch.setattr(sys.stdout.buffer, "write", lambda data: write(data[:3]), raising=False)
    with atomic_output("-") as path:
        path.write_bytes(b"content")
    assert buffer.getvalue() == b"content"


def test_standard_output_gets_nothing_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = replaced_stdout(monkeypatch)

    def write() -> None:
        with atomic_output("-") as path:
            path.write_bytes(b"half")
            raise ValueError("deliberate")

    with pytest.raises(ValueError, match="deliberate"):
        write()
    assert buffer.getvalue() == b""


def test_a_terminal_as_standard_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0), open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with pytest.raises(OutputError, match="terminal"), atomic_output("-") as path:
            path.write_bytes(b"binary")
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)


def test_a_terminal_named_as_a_device_is_refused() -> None:
    ours, theirs = pty.openpty()
    try:
        with pytest.raises(OutputError, match="terminal"):
            check_output(os.ttyname(theirs), force=True)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_closed_pipe_stays_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as stream:
        fake = SimpleNamespace(buffer=stream, isatty=lambda: False)
        monkeypatch.setattr(sys, "stdout", fake)

        def write() -> None:
            with atomic_output("-") as path:
                path.write_bytes(b"content")

        with pytest.raises(BrokenPipeError):
            write()


def test_a_device_survives_being_written_to() -> None:
    with atomic_output("/dev/null") as path:
        path.write_bytes(b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_an_output_error() -> None:
    def write() -> None:
        with atomic_output("/dev/full") as path:
            path.write_bytes(b"content")

    with pytest.raises(OutputError, match="/dev/full"):
        write()


def test_a_named_pipe_gets_the_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with atomic_output(str(pipe)) as path:
        path.write_bytes(b"content")
    reader.join()
    assert received == [b"content"]


def test_messages_stay_on_one_line(tmp_path: Path) -> None:
    target = tmp_path / "two\nlines"
    target.touch()
    with pytest.raises(OutputError) as caught:
        check_output(str(target), force=False)
    assert "\n" not in str(caught.value)
