"""A data set's server on this machine, slow or unreliable as one likes."""

import gzip
import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PIECES = 10


class Mirror:
    """Serves files, counts what it gives, and fails as it is told.

    Attributes:
        files: what is served, by name.
        begun: the names of the files whose sending has begun, in order.
        delay: seconds between the tenths of a file.
        cut: given how often a file was asked for, whether to close the connection midway.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.begun: list[str] = []
        self.delay = 0.0
        self.cut: Callable[[int], bool] = lambda times: False
        self.address = ""

    @property
    def resources(self) -> list[tuple[str, str]]:
        """The files and their MD5, as torchvision lists them."""
        return [(name, hashlib.md5(data).hexdigest()) for name, data in self.files.items()]

    def send(self, name: str, write: Callable[[bytes], object]) -> None:
        """Send a file, a tenth at a time."""
        data = self.files[name]
        self.begun.append(name)
        cut = self.cut(self.begun.count(name))
        size = -(-len(data) // _PIECES)
        for piece in range(_PIECES // 2 if cut else _PIECES):
            time.sleep(self.delay)
            write(data[piece * size : (piece + 1) * size])


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Mirror]:
    """Serve files on this machine while the context lasts."""
    mirror = Mirror(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(mirror.files[name])))
            self.end_headers()
            # torchvision looks for redirects first, with a header in place of the method HEAD.
            if self.headers.get("Method") != "HEAD":
                mirror.send(name, self.wfile.write)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            """Nothing: clients are killed on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        mirror.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()


def mnist(count: int = 50) -> dict[str, bytes]:
    """Small files in the format of MNIST, packed as they are served."""
    files = {}
    for part, first in (("train", 0), ("t10k", 1)):
        images = bytes((first + i * i) % 256 for i in range(count * 28 * 28))
        labels = bytes((first + i) % 10 for i in range(count))
        shape = b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        files[f"{part}-images-idx3-ubyte.gz"] = b"\0\0\x08\x03" + shape + images
        files[f"{part}-labels-idx1-ubyte.gz"] = b"\0\0\x08\x01" + shape[:4] + labels
    return {name: gzip.compress(data, mtime=0) for name, data in files.items()}


class _Redirected:
    def finish(self) -> None:
        """Nothing is left to do."""


def install(address: str, resources: list[list[str]], pause: float) -> _Redirected:
    """Make this process fetch MNIST from another address; see `tests.cli.preloaded`."""
    import torchvision.datasets as sets

    from arcsm_cli.data import download

    sets.MNIST.mirrors = [address]
    sets.MNIST.resources = [tuple(entry) for entry in resources]
    download.PAUSE = pause
    return _Redirected()
