"""Faults at the system calls by which the program writes, in a process forked for it.

`install` counts the calls of this process that change something below given folders: opening for
writing, writing, truncating, syncing, linking, renaming, removing. At the one asked for the
process kills itself, half of the bytes written if it was a write; or the calls fail from there
on, as on a full, a broken or a read-only disk. Calls on other paths pass.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from typing import Any

KILL, COUNT = "kill", "count"
ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS}

# What takes space; a full disk can still be tidied up, and a read-only one not.
_NEEDS_SPACE = {"open", "write", "truncate", "sync", "link", "rename"}

_os = {
    name: getattr(os, name)
    for name in (
        *("open", "write", "pwrite", "ftruncate", "fsync", "link", "rename", "replace"),
        *("unlink", "remove", "rmdir", "mkdir", "chmod", "fchmod"),
    )
}
_open = builtins.open

Half = Callable[[], object]


class Faults:
    """The fault of one process.

    Arguments:
        what: `KILL`, `COUNT` (nothing happens), or one of `ERRORS`.
        at: the number of the call, from 1.
        below: the folders whose files count.
        report: where `finish` writes the kinds of calls, one a line.
    """

    def __init__(self, what: str, at: int, below: list[str], report: str) -> None:
        self._what, self._at, self._report = what, at, report
        self._below = [os.path.realpath(folder) for folder in below]
        self._calls: list[str] = []
        self._paths: dict[int, Any] = {}
        self._process = os.getpid()

    def opened(self, descriptor: int, path: Any) -> None:
        """From now on the descriptor stands for the path."""
        self._paths[descriptor] = path

    def concerns(self, path: Any) -> bool:
        """Whether a path or descriptor counts."""
        if isinstance(path, int):
            path = self._paths.get(path)
        if path is None:
            return False
        name = os.path.realpath(os.fsdecode(path))
        return any(name == folder or name.startswith(folder + "/") for folder in self._below)

    def call(self, kind: str, path: Any, to: Any = None, half: Half | None = None) -> None:
        """A call is about to be made, of a path or from one to another; `half` makes a part."""
        if os.getpid() != self._process or not self.concerns(path if to is None else to):
            return
        self._calls.append(kind)
        if self._what == COUNT or len(self._calls) < self._at:
            return
        first = len(self._calls) == self._at
        if self._what == KILL:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._what == "read-only" or kind in _NEEDS_SPACE:
            if half is not None and first and self._what == "full":
                half()
            number = ERRORS[self._what]
            # As the system names them: a descriptor has no name.
            names = [None if p is None or isinstance(p, int) else os.fspath(p) for p in (path, to)]
            raise OSError(number, os.strerror(number), names[0], None, names[1])

    def finish(self) -> None:
        """The program has ended by itself."""
        descriptor = _os["open"](self._report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        _os["write"](descriptor, "\n".join(self._calls).encode())
        os.close(descriptor)


def install(what: str, at: int, below: list[str], report: str) -> Faults:
    """Watch the calls of this process; see `Faults`."""
    faults = Faults(what, at, below, report)

    def opening(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            faults.call("open", path)
        descriptor: int = _os["open"](path, flags, *rest, **named)
        faults.opened(descriptor, path)
        return descriptor

    def writing(name: str) -> Callable[..., int]:
        def write(descriptor: int, data: Any, *rest: Any) -> int:
            view = memoryview(data).cast("B")
            half = view[: len(view) // 2]
            faults.call("write", descriptor, half=lambda: _os[name](descriptor, half, *rest))
            count: int = _os[name](descriptor, data, *rest)
            return count

        return write

    def changing(name: str, kind: str) -> Callable[..., Any]:
        def change(*given: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                faults.call(kind, given[0], given[1] if kind in ("link", "rename") else None)
            return _os[name](*given, **named)

        return change

    os.open = opening
    os.write, os.pwrite = writing("write"), writing("pwrite")
    kinds = {"ftruncate": "truncate", "fsync": "sync", "link": "link", "rename": "rename"}
    kinds |= {"replace": "rename", "unlink": "remove", "remove": "remove", "rmdir": "remove"}
    kinds |= {"mkdir": "open", "chmod": "change", "fchmod": "change"}
    for name, kind in kinds.items():
        setattr(os, name, changing(name, kind))
    _watch_files(faults)
    return faults


def _watch_files(faults: Faults) -> None:
    """Replace ``open``, whose files write without passing through `os`."""

    class Raw(io.FileIO):
        def __init__(self, path: Any, mode: str) -> None:
            super().__init__(path, mode)
            self._path = path

        def write(self, data: Any) -> int:
            view = memoryview(data).cast("B")
            half = view[: len(view) // 2]
            plain = super().write
            faults.call("write", self._path, half=lambda: plain(half))
            return plain(view)

    def opening(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or named.get("opener") or not faults.concerns(path):
            return _open(path, mode, buffering, *rest, **named)
        if not isinstance(path, int):
            faults.call("open", path)
        raw = Raw(path, mode.replace("t", "").replace("b", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **named)

    builtins.open = opening
    io.open = opening
