"""Outputs that appear whole or not at all."""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from arcsm_cli.errors import OutputError
from arcsm_cli.io.scratch import scratch_file, scratch_folder, scratch_name, temporary_folder
from arcsm_cli.io.sink import signals_held

STDOUT = "standard output"

# What the system says when it is the output that failed; other errors of the caller's are its own.
_WRITE_FAILURES = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
}


def check_output(target: str, *, force: bool) -> None:
    """Refuse early, before any work, an output that could not be written at the end.

    Args:
        target: a path, or ``-`` for standard output.
        force: an existing file may be replaced.

    Raises:
        OutputError: the file exists and ``force`` is not given; its folder is missing or cannot
            be written to; it is a folder; it is, or ``-`` is, a terminal.
    """
    if target == "-":
        if sys.stdout.isatty():
            raise OutputError(
                f"{STDOUT} is a terminal: binary data needs a pipe or a file (-o FILE)"
            )
        return
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        _check_folder(target)
        return
    except (OSError, ValueError) as error:
        raise _failure(target, error) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{_shown(target)}: is a folder, where the name of a file is expected")
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        if stat.S_ISCHR(mode) and _is_terminal(target):
            raise OutputError(
                f"{_shown(target)}: is a terminal: binary data needs a pipe or a file"
            )
        return
    if not stat.S_ISREG(mode):
        raise OutputError(f"{_shown(target)}: is a device or socket that cannot be replaced")
    if not force:
        raise _exists(target)
    _check_folder(target)


@contextmanager
def atomic_output(target: str, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes ``target`` if the body ends without error.

    The temporary file lies beside the target under a hidden name, is flushed to disk and then
    renamed, so that readers see the old file, the new one or none, never a part. If anything is
    raised, it is removed and the target stays as it was; if the process is killed, the next one
    that writes the same target removes it. For ``-`` and for pipes and devices such as
    ``/dev/null`` it lies in the temporary folder and is copied out at the end.

    Args:
        target: a path, or ``-`` for standard output. A symbolic link is followed.
        force: an existing file may be replaced; its permissions are kept.

    Raises:
        OutputError: as `check_output`, or the system refused to write (disk full, quota, read-only
            file system).
        BrokenPipeError: the reader of the output went away.
    """
    check_output(target, force=force)
    if target == "-" or _is_stream(target):
        folder = temporary_folder()
        with _blaming(target, folder / "-"), scratch_file(folder, "arcsm") as temporary:
            yield temporary
            _copy_out(temporary, target)
        return
    final = Path(os.path.realpath(target))
    # A name may take 255 bytes; the affixes must not push a long one over the limit.
    stem = os.fsdecode(os.fsencode(final.name)[:200])
    with _blaming(target, final), scratch_file(final.parent, stem, 0o666) as temporary:
        yield temporary
        _sync(temporary)
        _publish(temporary, final, target, force=force)


def check_folder(target: str, *, force: bool, ours: Callable[[str], bool]) -> None:
    """Refuse early, before any work, a folder that could not be written at the end.

    Args:
        target: its path. An empty folder may be there.
        force: one that holds nothing but what we write may be replaced.
        ours: whether we write a file of that name, relative to the folder.

    Raises:
        OutputError: it is a file; it holds files, and ``force`` is not given or they are not ours;
            the folder that it is in is missing or cannot be written to.
    """
    final = os.path.realpath(target)
    if os.path.lexists(final):
        if not os.path.isdir(final):
            raise OutputError(f"{_shown(target)}: is a file, where a folder is to be written")
        held = [
            os.path.relpath(os.path.join(parent, name), final)
            for parent, _, names in os.walk(final)
            for name in names
        ]
        if held and not force:
            raise OutputError(f"{_shown(target)}: exists already; --force replaces it")
        if others := sorted(name for name in held if not ours(name)):
            raise OutputError(
                f"{_shown(target)}: holds {_shown(others[0])}, which arcsm did not write there: "
                "name another folder"
            )
    _check_folder(final)


@contextmanager
def atomic_folder(
    target: str, *, force: bool = False, ours: Callable[[str], bool]
) -> Iterator[Path]:
    """Yield a temporary folder to write to; it becomes ``target`` if the body ends without error.

    It lies beside the target under a hidden name, and is removed if anything is raised.

    Args:
        target, force, ours: as of `check_folder`.

    Raises:
        OutputError: as `check_folder`, or the system refused to write.
    """
    check_folder(target, force=force, ours=ours)
    final = Path(os.path.realpath(target))
    stem = os.fsdecode(os.fsencode(final.name)[:200])
    with _blaming(target, final), scratch_folder(final.parent, stem, alone=False) as temporary:
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        yield temporary
        os.sync()  # all files at once
        with signals_held():
            old = final.with_name(scratch_name(stem))
            with suppress(FileNotFoundError):
                final.rename(old)
            temporary.rename(final)
            shutil.rmtree(old, ignore_errors=True)


def _publish(temporary: Path, final: Path, target: str, *, force: bool) -> None:
    if force:
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(final.stat().st_mode))
        temporary.replace(final)
    else:
        try:
            # Unlike a rename, a link never replaces a file that appeared in the meantime.
            os.link(temporary, final)
        except FileExistsError as error:
            raise _exists(target) from error
        except OSError:  # a file system without hard links
            if os.path.lexists(final):
                raise _exists(target) from None
            temporary.rename(final)
    with suppress(OSError):  # not every file system can sync a folder
        _sync(final.parent)


def _copy_out(temporary: Path, target: str) -> None:
    with open(temporary, "rb") as source:
        if target == "-":
            _copy(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with open(target, "wb", buffering=0) as sink:
                _copy(source, sink)


def _copy(source: IO[bytes], sink: IO[bytes]) -> None:
    # What is not buffered, as standard output under PYTHONUNBUFFERED, may take a part and say so.
    while block := source.read(1 << 20):
        view = memoryview(block)
        while view:
            view = view[sink.write(view) :]


@contextmanager
def _blaming(target: str, final: Path) -> Iterator[None]:
    """Turn the system's refusals to write into `OutputError`; leave every other error alone.

    Ours are those about no file by name, as of writing, about the final file or a temporary one.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        ours = error.filename is None or _is_ours(error.filename, final)
        if ours and error.errno in _WRITE_FAILURES:
            raise _failure(target, error) from error
        raise


def _is_ours(name: object, final: Path) -> bool:
    if not isinstance(name, str | bytes | os.PathLike):
        return False
    path = Path(os.fsdecode(name))
    temporary = path.name.startswith(".") and path.suffix == ".tmp"
    return path == final or (path.parent == final.parent and temporary)


def _check_folder(target: str) -> None:
    final = os.path.realpath(target)
    folder = os.path.dirname(final)
    if not target or target.endswith(os.sep):
        raise OutputError(f"{_shown(target)}: is not the name of a file")
    if not os.path.isdir(folder):
        raise OutputError(f"{_shown(target)}: its folder does not exist, create {_shown(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{_shown(target)}: its folder cannot be written to")


def _is_stream(target: str) -> bool:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _is_terminal(device: str) -> bool:
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise _failure(device, error) from error
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(target: str) -> str:
    if target == "-":
        return STDOUT
    return target if target and target.isprintable() else ascii(target)


def _exists(target: str) -> OutputError:
    return OutputError(f"{_shown(target)}: exists already; --force replaces it")


def _failure(target: str, error: OSError | ValueError) -> OutputError:
    # h5py gives no strerror of one line, so the message comes from the number.
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number is not None else "is not a usable path"
    return OutputError(f"{_shown(target)}: cannot be written: {reason}")
