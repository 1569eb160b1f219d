"""Weights from files that may be anything, and from a network replaced by a table."""

import email.message
import hashlib
import io
import os
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, MissingInputError, UnavailableError
from arcsm_cli.evaluation import feature_weights
from arcsm_cli.evaluation.feature_weights import FOLDER, SHA256, URL, find_weights, read_weights

FILE = URL.rpartition("/")[2]
STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(3)}

Save = Callable[[Any, Path], None]


def save_zip(state: Any, path: Path) -> None:
    torch.save(state, path)


def save_legacy(state: Any, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file the published one."""

    def publish(path: Path) -> None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(feature_weights, "SHA256", digest)

    return publish


def test_safetensors_give_the_tensors_that_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save_file(STATE, path)
    found = read_weights(str(path))
    assert equal(found.tensors, STATE)
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_the_published_file_gives_its_tensors(
    save: Save, publish: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    save(STATE, path)
    publish(path)
    found = read_weights(str(path))
    assert equal(found.tensors, STATE)
    assert found.digest == feature_weights.SHA256


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_no_other_file_of_that_kind_is_read(save: Save, tmp_path: Path) -> None:
    save(STATE, tmp_path / "weights.pth")
    with pytest.raises(DamagedInputError, match=rf"weights\.pth: .*{SHA256[:8]}.*\.safetensors$"):
        read_weights(str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_changed_byte_makes_the_published_file_another(
    save: Save, data: st.DataObject, publish: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    save(STATE, path)
    publish(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(DamagedInputError, match=r"weights\.pth"):
        read_weights(str(path))


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_nothing_in_a_pickle_is_run(save: Save, tmp_path: Path) -> None:
    save(STATE | {"trap": Trap(tmp_path / "sprung")}, tmp_path / "weights.pth")
    with pytest.raises(DamagedInputError, match=r"weights\.pth"):
        read_weights(str(tmp_path / "weights.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_nothing_would_be_run_were_the_published_file_a_trap(
    save: Save, publish: Callable[[Path], None], tmp_path: Path
) -> None:
    save(STATE | {"trap": Trap(tmp_path / "sprung")}, tmp_path / "weights.pth")
    publish(tmp_path / "weights.pth")
    with pytest.raises(pickle.UnpicklingError):
        read_weights(str(tmp_path / "weights.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file])
def test_what_is_written_after_the_check_is_not_read(
    save: Save,
    publish: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path, other, sha256 = tmp_path / "weights", tmp_path / "other", hashlib.sha256
    save({name: tensor + 1 for name, tensor in STATE.items()}, path)
    path.rename(other)
    save(STATE, path)
    assert path.stat().st_size == other.stat().st_size
    if save is not save_file:
        publish(path)

    def check_and_replace(content: bytes) -> Any:
        path.write_bytes(other.read_bytes())
        return sha256(content)

    monkeypatch.setattr("hashlib.sha256", check_and_replace)
    assert equal(read_weights(str(path)).tensors, STATE)
    assert path.read_bytes() == other.read_bytes()


def truncated(path: Path) -> None:
    save_file({"weight": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-2000])


def saved(state: Any) -> Callable[[Path], None]:
    return lambda path: save_file(state, path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(range(256)) * 40),
        lambda path: path.write_text("<!DOCTYPE html>\n<title>Not found</title>\n"),
        lambda path: path.write_bytes(pickle.dumps(STATE)),
        lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
        lambda path: path.write_bytes((1 << 62).to_bytes(8, "little") + b"{" + b" " * 100),
        truncated,
        saved({"weight": torch.tensor([1.0, torch.nan])}),
        saved({"weight": torch.tensor([1.0, -torch.inf])}),
        saved({"weight": torch.ones(2, dtype=torch.bool)}),
        saved({"weight": torch.ones(0)}),
    ],
)
def test_what_holds_no_sound_weights_is_refused_in_a_line_that_names_it(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "weights.pth")
    with pytest.raises(DamagedInputError, match=r"weights\.pth") as caught:
        read_weights(str(tmp_path / "weights.pth"))
    assert "\n" not in str(caught.value)


def test_a_file_beyond_the_bound_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    monkeypatch.setattr(feature_weights, "MAX_BYTES", 100)
    with pytest.raises(DamagedInputError, match="bytes, more than"):
        read_weights(str(tmp_path / "weights.safetensors"))


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"weights\.pth"):
        read_weights(str(tmp_path / "weights.pth"))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_end_in_finite_tensors_or_in_a_refusal(
    data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_weights(str(path)).tensors
    except DamagedInputError:
        return
    assert all(tensor.isfinite().all() for tensor in found.values())


class Response(io.BytesIO):
    """What urlopen returns."""

    def info(self) -> email.message.Message:
        return email.message.Message()


class Network:
    """Serves one file, and counts how often."""

    def __init__(self, content: bytes) -> None:
        self.content, self.fetched = content, 0
        self.error: Exception | None = None

    def urlopen(self, request: Any, *_: Any, **__: Any) -> Response:
        assert request.full_url == URL
        if self.error is not None:
            raise self.error
        self.fetched += 1
        return Response(self.content)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    network = Network(buffer.getvalue())
    monkeypatch.setattr("torch.hub.urlopen", network.urlopen)
    digest = hashlib.sha256(network.content).hexdigest()
    monkeypatch.setattr(feature_weights, "SHA256", digest)
    return network


@pytest.fixture
def allowed(tmp_path: Path) -> DataOptions:
    return DataOptions(data_dir=tmp_path / "data", download=True)


def test_a_file_that_is_given_is_the_one(network: Network, allowed: DataOptions) -> None:
    assert find_weights("mine.pth", allowed) == "mine.pth"
    assert not network.fetched


def test_nothing_is_fetched_without_leave(network: Network, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"--download.*--feature-weights"):
        find_weights(None, DataOptions(data_dir=tmp_path))
    assert not network.fetched
    assert not list(tmp_path.iterdir())


def test_weights_are_fetched_once_into_the_data_folder(
    network: Network, allowed: DataOptions
) -> None:
    path = find_weights(None, allowed)
    assert equal(read_weights(path).tensors, STATE)
    assert path == str(allowed.root / FOLDER / FILE)
    assert find_weights(None, allowed) == path
    assert find_weights(None, DataOptions(data_dir=allowed.data_dir)) == path
    assert network.fetched == 1


@pytest.mark.parametrize("error", [None, urllib.error.URLError("down"), TimeoutError("timed out")])
def test_a_download_that_fails_or_is_not_the_published_file_leaves_nothing(
    error: Exception | None, network: Network, allowed: DataOptions
) -> None:
    network.error, network.content = error, b"something else"
    with pytest.raises(UnavailableError, match="could not be downloaded") as caught:
        find_weights(None, allowed)
    assert "\n" not in str(caught.value)
    assert not list((allowed.root / FOLDER).glob("*.pth"))


def test_the_published_name_carries_the_beginning_of_its_checksum() -> None:
    assert len(SHA256) == 64
    assert SHA256[:8] in URL
