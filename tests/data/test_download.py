"""Downloads, with the network replaced by a table of responses."""

import errno
import gzip
import hashlib
import io
import sys
import tarfile
import threading
import time
import urllib.error
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as tv

from arcsm_cli.data import download, vision
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.errors import OutputError, UnavailableError
from arcsm_cli.io.scratch import scratch_name


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Response(io.BytesIO):
    """What urlopen returns."""

    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(content)
        self.url = url
        self.length = len(content)


class Network:
    """Serves ``files`` by the last part of the address, and counts what was fetched."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.error: Exception | None = None
        self.delay = 0.0

    def urlopen(self, request: Any, *_: Any, **__: Any) -> Response:
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error
        name = request.full_url.rpartition("/")[2]
        if not request.has_header("Method"):  # how torchvision marks its look for redirects
            self.fetched.append(name)
        return Response(request.full_url, self.files[name])


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr("urllib.request.urlopen", network.urlopen)
    return network


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)


@pytest.fixture
def allowed(options: DataOptions) -> DataOptions:
    return replace(options, download=True)


def serve_mnist(network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve the files of a folder as MNIST and remove them there."""
    for path in sorted(folder.iterdir()):
        network.files[path.name + ".gz"] = gzip.compress(path.read_bytes())
        path.unlink()
    resources = [(name, md5(content)) for name, content in network.files.items()]
    monkeypatch.setattr(tv.MNIST, "resources", resources)


@pytest.fixture
def served(network: Network, mnist: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    serve_mnist(network, mnist, monkeypatch)
    return network


def count(options: DataOptions, name: str = "mnist", split: str = "test") -> int:
    return len(load_data(name, options, default_split=split))


def test_a_missing_set_is_downloaded(served: Network, allowed: DataOptions) -> None:
    assert count(allowed) == 10


def test_what_is_there_is_not_downloaded_again(served: Network, allowed: DataOptions) -> None:
    count(allowed)
    count(allowed, split="train")
    assert len(served.fetched) == 4


def test_nothing_is_downloaded_without_leave(served: Network, options: DataOptions) -> None:
    with pytest.raises(UnavailableError, match="--download"):
        count(options)
    assert not served.fetched


def test_nothing_but_the_files_and_the_lock_is_left(served: Network, allowed: DataOptions) -> None:
    count(allowed)
    names = {path.name for path in (allowed.root / "MNIST" / "raw").iterdir()}
    assert names == {name.removesuffix(".gz") for name in served.files} | {".mnist.lock"}


def test_one_of_several_processes_downloads_and_the_others_wait(
    served: Network, allowed: DataOptions
) -> None:
    served.delay = 0.01
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(count(allowed))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [10, 10, 10]
    assert len(served.fetched) == 4


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.URLError(PermissionError(errno.EACCES, "blocked")),
        TimeoutError("timed out"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        RuntimeError("two\nlines"),
    ],
)
def test_a_network_failure_is_one_line(
    served: Network, allowed: DataOptions, error: Exception
) -> None:
    served.error = error
    with pytest.raises(UnavailableError, match="'mnist' could not be downloaded") as caught:
        count(allowed)
    assert "\n" not in str(caught.value)


def test_a_failed_download_leaves_no_file(served: Network, allowed: DataOptions) -> None:
    served.files["train-labels-idx1-ubyte.gz"] = b"damaged on the way"
    with pytest.raises(UnavailableError):
        count(allowed)
    names = [path.name for path in (allowed.root / "MNIST" / "raw").iterdir()]
    assert names == [".mnist.lock"]


def test_a_download_that_is_cut_off_is_begun_again(
    served: Network, allowed: DataOptions, caplog: pytest.LogCaptureFixture
) -> None:
    whole = dict(served.files)
    name = "train-labels-idx1-ubyte.gz"
    urlopen = served.urlopen

    def cut(request: Any, *given: Any, **named: Any) -> Response:
        # On each of the mirrors, which are tried one after another.
        early = served.fetched.count(name) < len(tv.MNIST.mirrors)
        served.files[name] = whole[name][:10] if early else whole[name]
        return urlopen(request, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", cut)
        assert count(allowed) == 10
    assert served.fetched.count(name) == len(tv.MNIST.mirrors) + 1
    assert "trying again" in caplog.text


def test_a_network_that_gives_nothing_is_asked_once(served: Network, allowed: DataOptions) -> None:
    asked = []

    def down(*_: Any, **__: Any) -> Response:
        asked.append(1)
        raise urllib.error.URLError("down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", down)
        with pytest.raises(UnavailableError):
            count(allowed)
    assert len(asked) <= 2 * len(tv.MNIST.mirrors)


def test_what_a_killed_download_left_is_removed(served: Network, allowed: DataOptions) -> None:
    raw = allowed.root / "MNIST" / "raw"
    (raw / scratch_name("mnist.download")).mkdir()
    count(allowed)
    assert not [path for path in raw.iterdir() if path.is_dir()]


def test_a_download_that_failed_can_be_repeated(served: Network, allowed: DataOptions) -> None:
    served.error = urllib.error.URLError("down")
    with pytest.raises(UnavailableError):
        count(allowed)
    served.error = None
    assert count(allowed) == 10


def test_a_folder_that_cannot_be_written_is_an_output_error(
    network: Network, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        count(DataOptions(data_dir=tmp_path / "file", download=True), "cifar10")


def test_a_full_disk_is_an_output_error(
    served: Network, allowed: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", full)
    with pytest.raises(OutputError, match="No space left"):
        count(allowed)


def test_the_timeout_holds_only_during_the_download(
    served: Network, allowed: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    seen: list[float | None] = []
    urlopen = served.urlopen

    def watch(*given: Any) -> Response:
        seen.append(socket.getdefaulttimeout())
        return urlopen(*given)

    monkeypatch.setattr("urllib.request.urlopen", watch)
    count(allowed)
    assert set(seen) == {download.TIMEOUT}
    assert socket.getdefaulttimeout() is None


def test_a_download_keeps_the_streams_clean(
    served: Network, allowed: DataOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    count(allowed)
    assert capsys.readouterr() == ("", "")


def test_prints_of_the_download_code_stay_off_standard_output(
    allowed: DataOptions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def chatty(staging: Path) -> None:
        print("downloading")
        (staging / "x").write_text("")

    download.ensure("set", allowed.root, ["x"], allowed, chatty)
    assert capsys.readouterr().out == ""


def test_an_incomplete_download_is_unavailable(allowed: DataOptions) -> None:
    def partial(staging: Path) -> None:
        (staging / "x").write_text("")

    with pytest.raises(UnavailableError, match="lacks y"):
        download.ensure("set", allowed.root, ["x", "y"], allowed, partial)


def test_cifar_is_fetched_in_its_binary_version(
    network: Network, cifar: Path, allowed: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(cifar, cifar.name)
    for path in cifar.iterdir():
        path.unlink()
    url, _ = vision.CIFAR_ARCHIVE
    network.files[url.rpartition("/")[2]] = buffer.getvalue()
    monkeypatch.setattr(vision, "CIFAR_ARCHIVE", (url, md5(buffer.getvalue())))
    assert count(allowed, "cifar10", "train") == 20


def test_svhn_is_fetched_split_by_split(
    network: Network, svhn: Path, allowed: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.files[svhn.name] = svhn.read_bytes()
    entry = ["http://example.org/" + svhn.name, svhn.name, md5(svhn.read_bytes())]
    monkeypatch.setattr(tv.SVHN, "split_list", {"train": entry})
    svhn.unlink()
    assert count(allowed, "svhn", "train") == 12


@pytest.fixture
def drive(celeba: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve CelebA in place of the download from Google Drive; the names asked for."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((celeba / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
            path.unlink()
    (celeba / "img_align_celeba").rmdir()
    partition = celeba / "list_eval_partition.txt"
    files = {"img_align_celeba.zip": buffer.getvalue(), partition.name: partition.read_bytes()}
    partition.unlink()
    asked: list[str] = []

    def fetch(identifier: str, root: str, filename: str, checksum: str) -> None:
        asked.append(filename)
        Path(root, filename).write_bytes(files[filename])

    monkeypatch.setattr("torchvision.datasets.utils.download_file_from_google_drive", fetch)
    return asked


def test_celeba_is_fetched_without_the_files_that_are_not_read(
    drive: list[str], allowed: DataOptions
) -> None:
    assert count(allowed, "celeba") == 3
    assert sorted(drive) == ["img_align_celeba.zip", "list_eval_partition.txt"]


def test_the_archive_of_celeba_is_removed_after_unpacking(
    drive: list[str], allowed: DataOptions
) -> None:
    count(allowed, "celeba")
    assert not list(allowed.root.rglob("*.zip"))


def test_the_real_addresses_carry_checksums() -> None:
    sums = [vision.CIFAR_ARCHIVE[1], *(sum_ for _, sum_ in tv.MNIST.resources)]
    assert all(len(sum_) == 32 for sum_ in sums)


def test_locks_that_the_file_system_lacks_do_not_stop_a_download(
    allowed: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)

    def fetch(staging: Path) -> None:
        np.save(staging / "x.npy", np.zeros(1))

    download.ensure("set", allowed.root, ["x.npy"], allowed, fetch)
    assert (allowed.root / "x.npy").exists()
