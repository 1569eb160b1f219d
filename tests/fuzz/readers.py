"""Readers of files as functions of bytes, which let only the documented errors pass."""

import contextlib
import functools
import io
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from tests.fuzz import building, seeds

_LONGEST = 1000  # characters of a message
_ENDED = re.compile(r"crashed \(\w+\)|takes far longer|takes far more memory")

ended: Counter[str] = Counter()
"""How often which end of a reader's process was told as a damaged file."""


@contextlib.contextmanager
def documented(*more: type[ArcsmError]) -> Iterator[None]:
    """Let pass that the input is damaged, in one line that a terminal can show."""
    try:
        yield
    except (DamagedInputError, *more) as error:
        message = str(error)
        assert message.isprintable(), f"not one line: {message!r}"
        assert len(message) <= _LONGEST, f"{len(message)} characters: {message[:200]}"


@functools.cache
def _folder(process: int) -> Path:
    """A folder for this process, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    folder = tempfile.TemporaryDirectory(prefix="arcsm-fuzz-", dir=where)
    _kept.append(folder)
    return Path(folder.name)


_kept: list[Any] = []  # the folders vanish with the process


def _file(data: bytes, name: str = "input") -> Path:
    path = _folder(os.getpid()) / name
    path.unlink(missing_ok=True)  # HDF5 knows a file that is still open by its number
    path.write_bytes(data)
    return path


def checkpoint(data: bytes) -> None:
    """Checkpoints and resume files, up to the model."""
    from arcsm_cli.io.checkpoint import load_resume
    from arcsm_cli.models.load import load_any

    path = _file(data)
    with documented():
        load_any(path)
    with documented():
        load_resume(path)


def info(data: bytes) -> None:
    """What `arcsm info` prints of a checkpoint, a resume file or a reference."""
    from arcsm_cli.commands.info import run

    path = _file(data)
    for json in (False, True):
        with contextlib.redirect_stdout(io.StringIO()) as printed, documented():
            run(str(path), json=json)
        lines = printed.getvalue().split("\n")
        assert all(line.isprintable() for line in lines), "control characters on stdout"


def reference(data: bytes) -> None:
    """The typical statistics beside a model."""
    from arcsm_cli.io.reference_file import load_reference_file

    with documented():
        load_reference_file(_file(data))


def samples(data: bytes) -> None:
    """Sample files that are sound HDF5, built as the bytes say, read in this process."""
    from arcsm_cli.io.sample_reader import SampleReader

    path = _file(building.hdf5(data))
    with documented():
        reader = SampleReader(path, "input")
        shapes, *_ = reader.contents()
        for name, (count, *_) in shapes.items():
            reader.read(name, 0, min(count, 1 << 16))


class _Openers:
    """Reads HDF5 files of any bytes, one after the other; lives in a process of its own."""

    def read(self, path: str) -> None:
        from arcsm_cli.io.comparison_reader import ComparisonReader
        from arcsm_cli.io.sample_reader import SampleReader

        comparison = ComparisonReader(Path(path), path)
        if comparison.format() == "arcsm-comparison":
            comparison.texts()
            comparison.check({"losses": ["method", "step"]})
            for column in ("method", "step"):
                comparison.column("losses", column, 3)
        reader = SampleReader(Path(path), path)
        for name, (count, *_) in reader.contents()[0].items():
            reader.read(name, 0, min(count, 1 << 16))


@functools.cache
def _openers(process: int) -> list[Any]:
    return []


def hdf5(data: bytes) -> None:
    """Sample files and comparisons of any bytes, read where commands read them: in a process of
    its own. It is kept until it dies, for the sake of speed.
    """
    from arcsm_cli.io import isolated

    alive = _openers(os.getpid())
    if not alive:
        with mock.patch.object(isolated, "SECONDS", 2.0):  # longer is not worth waiting for
            alive.append(isolated.Isolated(_Openers, "input"))
    with documented():
        try:
            alive[0].call("read", str(_file(data)))
        except DamagedInputError as error:
            reason = _ENDED.search(str(error))
            if reason:
                ended[reason.group()] += 1
                alive.pop().close()
            raise


class _Here:
    """Stands for `Isolated` where the fuzzer is to see what happens, and the file is sound HDF5."""

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        self._made = make()

    def call(self, method: str, *arguments: Any, size: int = 0) -> Any:
        """Call a method."""
        return getattr(self._made, method)(*arguments)

    def close(self) -> None:
        """Let go of the file, as the end of a process does."""
        self._made._file.close()


def comparison(data: bytes) -> None:
    """Results of experiments: the JSON that describes the tables."""
    import h5py

    from arcsm_cli.io import comparison_file

    path = _file(_comparison())
    with h5py.File(path, "r+") as file:
        for key in ("comparison", "provenance")[: 1 + data.startswith(b"[")]:
            file.attrs[key] = data.decode("utf-8", "replace").replace("\0", " ")
    with documented(), mock.patch.object(comparison_file, "Isolated", _Here):
        comparison_file.load_comparison(path)


@functools.cache
def _comparison() -> bytes:
    return seeds.comparisons()[0]


def descriptions() -> list[bytes]:
    import h5py

    with h5py.File(io.BytesIO(_comparison())) as file:
        return [file.attrs[key].encode() for key in ("comparison", "provenance")]


def array(data: bytes) -> None:
    """DATA in .npy and .npz files."""
    from arcsm_cli.data.files import load_file

    with documented():
        load_file(str(_file(data)))


def table(data: bytes) -> None:
    """DATA in text files."""
    from arcsm_cli.data.tables import read_table

    with documented():
        read_table(_file(data))


def image(data: bytes) -> None:
    """Pictures of a folder."""
    from arcsm_cli.data.decoding import decode

    with documented():
        decode(_file(data))


def downloads(data: bytes) -> None:
    """The files of MNIST, CIFAR-10, SVHN and CelebA; the first byte chooses."""
    from arcsm_cli.data import celeba, vision

    kind, content = (data[0] if data else 0) % 6, data[1:]
    folder = _folder(os.getpid()) / "downloads"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "file"
    (path if kind != 2 else folder / "file.gz").write_bytes(content)
    with documented():
        match kind:
            case 0 | 2:
                vision.read_idx(path, 3)
            case 1:
                vision.read_idx(path, 1)
            case 3:
                vision._cifar_records(path)
            case 4:
                vision.read_svhn(path)
            case _:
                celeba._partition(path, "0")


@functools.cache
def _options() -> tuple[list[Any], dict[str, Any]]:
    """The parameters of `train`, and their types."""
    from arcsm_cli.cli.command import build_command, load_command

    command = build_command("train", load_command("train").run)
    return command.params, command.types()


def config(data: bytes) -> None:
    """The file of `--config`, against the options of `train`."""
    from arcsm_cli.cli.config import Config

    parameters, types = _options()
    with documented(UsageError, MissingInputError):
        Config(str(_file(data, "config.toml")), parameters, types)


def text(data: bytes) -> None:
    """JSON in files: a configuration of a model, a chain of commands."""
    from arcsm_cli.io import bounded_json
    from arcsm_cli.io.provenance import extend, parse_chain
    from arcsm_cli.models.restore import config_type, parameter_count

    content = data.decode("utf-8", "replace")
    with documented():
        chain = parse_chain(content, "input")
        bounded_json.dump(extend([chain], {"command": "sample"}))  # what is read can be written
    try:
        value = bounded_json.parse(content, size=1 << 22)
    except bounded_json.JSONError:
        return
    with documented():
        parameter_count(config_type(value).from_dict(value))
