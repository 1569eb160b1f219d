"""Fetching data sets with torchvision's download code, safely with several processes at once."""

import contextlib
import errno
import fcntl
import io
import logging
import os
import socket
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import OutputError, UnavailableError
from arcsm_cli.io.scratch import scratch_folder
from arcsm_cli.io.streams import label

logger = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds without a byte after which the network counts as down."""

ATTEMPTS = 5
"""How often a download is begun that was cut off on the way."""

PAUSE = 2.0
"""Seconds before it is begun again; twice as many before each further time."""

_LOCAL_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


def ensure(
    name: str, folder: Path, files: list[str], options: DataOptions, fetch: Callable[[Path], None]
) -> None:
    """See to it that the files of a data set exist, downloading them if that is allowed.

    One process downloads, others wait for it; if it is killed, the next one takes over. Everything
    is fetched into a hidden folder beside and renamed at the end, so that a file that exists is
    whole.

    Arguments:
        name: The data set, for messages.
        folder: Where the files belong.
        files: Paths below ``folder`` (or these with ``.gz``); the data set is complete with them.
        options: ``download`` is the permission.
        fetch: Fills an empty folder with the files, keeping their paths.

    Raises:
        UnavailableError: Files are missing and may not, or could not, be downloaded.
        OutputError: The folder cannot be written.
    """

    def missing() -> list[str]:
        return [file for file in files if not (folder / file).exists() and not gz(folder / file)]

    absent = missing()
    if not absent:
        return
    if not options.download:
        raise UnavailableError(
            f"'{name}': {label(folder / absent[0])} does not exist; fetch it with --download, or "
            "say with --data-dir where the data is"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(name, folder / f".{name}.lock") as locked:
            if missing():
                _stage(name, folder, fetch, alone=locked)
    except OSError as error:
        raise OutputError(f"{label(folder)}: {error.strerror or error}") from error
    if missing():
        raise UnavailableError(f"'{name}': the download lacks {missing()[0]}")


def gz(path: Path) -> Path | None:
    """Return ``path`` with ``.gz`` appended if that file exists, else ``None``."""
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() else None


@contextlib.contextmanager
def _lock(name: str, path: Path) -> Iterator[bool]:
    """Wait until no other process holds the lock; whether there is one at all.

    Some network file systems have no locks. Without one, two processes may download the same
    files, and each still renames whole ones into place.
    """
    with open(path, "a") as file:
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another process is downloading %s, waiting for it", name)
            locked = _is_granted(file)
        except OSError:
            locked = False
        yield locked


def _is_granted(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # EAGAIN even where it may wait: there are none after all
        return False
    return True


def _stage(name: str, folder: Path, fetch: Callable[[Path], None], *, alone: bool) -> None:
    logger.info("downloading %s to %s", name, folder)
    with scratch_folder(folder, f"{name}.download", alone=alone) as staging:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(name, staging, fetch)
                break
            except UnavailableError as error:
                # Where nothing has come at all, nothing will.
                if attempt == ATTEMPTS or not any(staging.iterdir()):
                    raise
                logger.warning("%s; trying again", error)
                time.sleep(PAUSE * 2 ** (attempt - 1))
        # in the order of the names: the last file of a set is the sign that it is complete
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = folder / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


def _fetch(name: str, staging: Path, fetch: Callable[[Path], None]) -> None:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with _progress():
            fetch(staging)
    except Exception as error:  # each of urllib, http, gdown and torchvision has its own
        number = getattr(error, "errno", None)
        if number in _LOCAL_ERRORS and not isinstance(error, urllib.error.URLError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnavailableError(f"'{name}' could not be downloaded: {reason}") from error
    finally:
        socket.setdefaulttimeout(timeout)


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    # torchvision draws its bar on whatever stderr is; keep control characters out of logs, and
    # stdout clean in any case
    quiet = not (sys.stderr.isatty() and logger.isEnabledFor(logging.INFO))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if quiet:
            sink = io.StringIO()
            stack.enter_context(contextlib.redirect_stdout(sink))
            stack.enter_context(contextlib.redirect_stderr(sink))
        yield
