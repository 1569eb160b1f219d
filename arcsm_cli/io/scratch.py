"""Temporary files and folders of this process, and the removal of what killed processes left.

A process that is killed cannot tidy up, so the next one does. Its file is called
``.STEM.HOSTxxxxxxxx.tmp``, and it holds a lock on it as long as it needs it, which the system drops
with the process, however that ends. A file without its lock is a leftover.
"""

import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from arcsm_cli.errors import OutputError
from arcsm_cli.io.sink import signals_held

# On some cluster file systems a lock is seen by one machine alone. What another one made is left
# for it to remove, unless nothing has happened to it for so long that it is dead in any case.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
_DEAD = 7 * 24 * 3600.0  # seconds

# Whoever sweeps holds a lock for as long as a file takes to remove.
_TRIES, _PAUSE = 8, 0.01  # seconds

_swept: set[tuple[str, str]] = set()  # once a process is enough: folders may be large


@contextmanager
def scratch_file(folder: Path, stem: str, mode: int = 0o600) -> Iterator[Path]:
    """Yield an empty file of our own, removed at the end if it is still there.

    Files of that stem that killed processes left in the folder are removed first.

    Args:
        folder: where.
        stem: what its name begins with, after a dot.
        mode: permissions, less the umask.

    Raises:
        OSError: it cannot be made.
    """
    sweep(folder, stem)
    made: list[tuple[Path, int]] = []
    try:
        with signals_held():  # a signal in between would leave the file
            made.append(_create(folder, stem, mode))
        yield made[0][0]
    finally:
        with signals_held():
            for path, descriptor in made:
                with suppress(OSError):
                    path.unlink()
                os.close(descriptor)


@contextmanager
def scratch_folder(folder: Path, stem: str, *, alone: bool) -> Iterator[Path]:
    """Yield an empty folder of our own, removed at the end with all that is in it.

    Args:
        folder: where.
        stem: what its name begins with, after a dot.
        alone: the caller holds a lock that says that no other folder of that stem is in use, so
            that those there are leftovers, to be removed.

    Raises:
        OSError: it cannot be made.
    """
    if alone:
        for path in leftovers(folder, stem):
            shutil.rmtree(path, ignore_errors=True)
    made = folder / scratch_name(stem)
    try:
        made.mkdir(mode=0o700)
        yield made
    finally:
        with signals_held():
            shutil.rmtree(made, ignore_errors=True)


def scratch_name(stem: str) -> str:
    """Return a new name with that stem, by which leftovers are known."""
    return f".{stem}.{_HOST}{secrets.token_hex(4)}.tmp"


def temporary_folder() -> Path:
    """Return the folder for temporary files.

    It is the one that TMPDIR names, else the system's. Unlike `tempfile.gettempdir` this writes
    nothing to find out: a file of that trial would stay if the process were killed, and a full
    disk would quietly be passed over.

    Raises:
        OutputError: there is none that can be written to.
    """
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for folder in (*named, "/tmp", "/var/tmp"):  # noqa: S108  the very question
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(os.path.abspath(folder))
    raise OutputError("there is no folder for temporary files to write to: set TMPDIR to one")


def sweep(folder: Path, stem: str) -> None:
    """Remove the files of that stem in a folder whose processes are gone; never raises OSError."""
    if (str(folder), stem) in _swept:
        return
    _swept.add((str(folder), stem))
    for path in leftovers(folder, stem):
        with suppress(OSError):
            _remove_unlocked(path)


def leftovers(folder: Path, stem: str) -> list[Path]:
    """Return what has a name of `scratch_name` in a folder and is ours to judge."""
    pattern = re.compile(re.escape(f".{stem}.") + r"([0-9a-f]{4})[0-9a-f]{8}\.tmp")
    found = []
    with suppress(OSError):
        for name in os.listdir(folder):
            match = pattern.fullmatch(name)
            path = folder / name
            if match and (match[1] == _HOST or _is_dead(path)):
                found.append(path)
    return found


def _is_dead(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > _DEAD
    return False


def _create(folder: Path, stem: str, mode: int) -> tuple[Path, int]:
    """Make a file and lock it.

    A name is random and made once, so that a path that is there leads to our file, whatever
    number a network's file system gives it. A lock that is never to be had, as where flock answers
    EAGAIN for everything, is gone without: there nobody can sweep.
    """
    for last in (*[False] * _TRIES, True):
        path = folder / scratch_name(stem)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                break
            with suppress(OSError):
                path.unlink()
            time.sleep(_PAUSE)
        except OSError:
            break  # without locks nobody can sweep
        else:
            if last or os.path.lexists(path):
                break
        # Someone swept between the two calls, or is about to.
        os.close(descriptor)
    return path, descriptor


def _remove_unlocked(path: Path) -> None:
    state = path.lstat()
    # Temporary folders are open to all: what others made is theirs, and a pipe would be waited for.
    if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
