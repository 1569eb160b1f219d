"""Where HDF5 writes to, so that a full disk is an ordinary error."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Sink:
    """A file for `h5py.File` that keeps the first error and lets HDF5 carry on.

    When a write fails, the HDF5 library cannot close its file any more and takes the process down
    on exit. Here it never learns of the failure: what it writes afterwards is dropped, and
    `errors` raises the kept error to the caller instead. Whatever makes HDF5 write must run
    within `errors`.

    Args:
        path: the file to write; an existing one is emptied.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._size = 0
        self._error: OSError | MemoryError | None = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the error that was kept, if any, in place of whatever HDF5 made of it.

        Signals wait until the body is done, since an exception out of a handler would strike
        within the methods that HDF5 calls.
        """
        try:
            with signals_held():
                yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file; what HDF5 writes from now on is dropped."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def write(self, data: memoryview) -> int:
        """Write all of ``data`` unless an earlier write failed; always claims success."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._descriptor is not None and self._error is None:
                count = os.pwrite(self._descriptor, rest, self._position)
                self._position += count
                rest = rest[count:]
        except (OSError, MemoryError) as error:
            self._error = error
        self._position += len(rest)
        self._size = max(self._size, self._position)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file, under the same rule as `write`."""
        length = self._position if size is None else size
        try:
            if self._descriptor is not None and self._error is None:
                os.ftruncate(self._descriptor, length)
        except (OSError, MemoryError) as error:
            self._error = error
        self._size = length
        return length

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, as `readinto` has them; h5py knows files by this method."""
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` from the file; zeros stand for what a dropped write would have left."""
        view = memoryview(buffer).cast("B")
        size = len(view)
        try:
            while view and self._descriptor is not None:
                count = os.preadv(self._descriptor, [view], self._position)
                if count == 0:
                    break
                self._position += count
                view = view[count:]
        except (OSError, MemoryError) as error:
            self._error = error
        view[:] = bytes(len(view))
        self._position += len(view)
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the file, as files do."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """The place within the file."""
        return self._position

    def flush(self) -> None:
        """Nothing is buffered."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Deliver the signals that arrive during the body when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs its signal handlers in the main thread only
        return
    held: list[int] = []
    handlers: dict[int, Callable[[int, Any], Any]] = {}
    try:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda received, _: held.append(received))
        yield
    finally:
        for held_back, handler in handlers.items():
            signal.signal(held_back, handler)
        for received in held:
            handlers[received](received, None)
