"""Inputs as local files."""

import io
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError, MissingInputError, OutputError, UsageError
from arcsm_cli.io.streams import describe, label, local_input, show, sniff


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    fake = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", fake)


def test_a_file_is_yielded_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"content")
    with local_input(str(path)) as local:
        assert local == path


def test_standard_input_becomes_a_file_while_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"content")
    with local_input("-") as local:
        assert local.read_bytes() == b"content"
        assert label(local) == label("-") == "standard input"
    assert not local.exists()


def test_the_spooled_file_is_deleted_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"content")
    seen: list[Path] = []

    def use() -> None:
        with local_input("-") as local:
            seen.append(local)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert not seen[0].exists()


def test_a_terminal_as_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"", terminal=True)
    with pytest.raises(UsageError, match="terminal"), local_input("-"):
        pass


def test_no_room_to_spool_is_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    feed(monkeypatch, bytes(1 << 16))

    @contextmanager
    def full(*_: object) -> Iterator[Path]:
        yield Path("/dev/full")

    monkeypatch.setattr("arcsm_cli.io.streams.scratch_file", full)
    with pytest.raises(OutputError, match="No space left"), local_input("-"):
        pass


def test_no_folder_to_spool_to_is_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"content")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="TMPDIR"), local_input("-"):
        pass


def test_a_named_pipe_is_spooled(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"content",))
    writer.start()
    with local_input(str(pipe)) as local:
        assert local.read_bytes() == b"content"
        assert label(local) == str(pipe)
    writer.join()


def test_a_path_named_dash_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"content")
    with local_input(Path("./-")) as local:
        assert local.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["", "missing", "file/in", "loop", "n" * 300, "a\0b"])
def test_a_missing_file_is_reported_as_missing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    with pytest.raises(MissingInputError), local_input(name):
        pass


def test_a_file_without_permission_is_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in"
    path.touch()

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(MissingInputError, match="Permission denied"), local_input(str(path)):
        pass


def test_a_folder_is_of_the_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(DamagedInputError, match="folder"), local_input(str(tmp_path)):
        pass


def test_a_device_is_of_the_wrong_kind() -> None:
    with pytest.raises(DamagedInputError, match="device"), local_input("/dev/zero"):
        pass


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ((2).to_bytes(8, "little") + b"{}", "checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "samples"),
        *((other, None) for other in (b"", b"{}", b"12345678{", pickle.dumps([1]), b"PK\x03\x04")),
    ],
)
def test_sniffing_looks_at_the_content_alone(
    tmp_path: Path, content: bytes, kind: str | None
) -> None:
    path = tmp_path / "misleading.png"
    path.write_bytes(content)
    assert sniff(path) == kind


def test_sniffing_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        sniff(tmp_path / "missing")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_called_pickles(protocol: int) -> None:
    called = describe(pickle.dumps({"weights": [1.0]}, protocol))
    assert ("pickled" in called) == (protocol >= 2)


@given(st.text())
def test_shown_text_is_short_and_printable(text: str) -> None:
    shown = show(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 60
