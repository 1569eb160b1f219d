"""Files that are damaged, wrong or made to harm, given to every command that reads them.

Each ends with the right exit code and one line that names the file, within bounded time and
memory, and with no output file.
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from tests.cli.preloaded import VECTORS

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
Make = Callable[[Path, Path], None]  # writes the file at the first path, given a good model

SECONDS, MEMORY = 10, 256 << 20  # far more than refusing takes, far less than obeying would


def split(model: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes of a checkpoint."""
    content = model.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join(path: Path, header: dict[str, Any], tensors: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)


def metadata(**changes: str) -> Make:
    def make(path: Path, model: Path) -> None:
        header, tensors = split(model)
        header["__metadata__"] |= changes
        join(path, header, tensors)

    return make


def config(**changes: Any) -> Make:
    def make(path: Path, model: Path) -> None:
        header, tensors = split(model)
        values = json.loads(header["__metadata__"]["config"]) | changes
        header["__metadata__"]["config"] = json.dumps(values)
        join(path, header, tensors)

    return make


def raw(content: bytes) -> Make:
    return lambda path, model: path.write_bytes(content) and None


def truncated_model(path: Path, model: Path) -> None:
    path.write_bytes(model.read_bytes()[:-100])


def model_with_nan(path: Path, model: Path) -> None:
    header, tensors = split(model)
    join(path, header, np.float32("nan").tobytes() + tensors[4:])


def model_with_a_tensor_renamed(path: Path, model: Path) -> None:
    header, tensors = split(model)
    header["other"] = header.pop(next(name for name in header if name != "__metadata__"))
    join(path, header, tensors)


def pickled(path: Path, model: Path) -> None:
    import torch

    torch.save({"weight": torch.ones(3)}, path)


def samples(**changes: Any) -> Make:
    """A sample file of two variables with other attributes, or other samples."""

    def make(path: Path, model: Path) -> None:
        good = {"format": "arcsm-samples", "format_version": 1, "provenance": "[]"}
        data = changes.get("samples", np.zeros((8, 2), np.float32))
        with h5py.File(path, "w") as file:
            file.attrs.update(good | {k: v for k, v in changes.items() if k in good})
            file.create_dataset("samples", data=data)

    return make


def truncated_samples(path: Path, model: Path) -> None:
    samples(samples=np.ones((2000, 2), np.float32))(path, model)
    path.write_bytes(path.read_bytes()[:-5000])


def linked_samples(path: Path, model: Path) -> None:
    samples()(path.with_name("secret.h5"), model)
    samples()(path, model)
    with h5py.File(path, "a") as file:
        del file["samples"]
        file["samples"] = h5py.ExternalLink("secret.h5", "/samples")


def stored_elsewhere(path: Path, model: Path) -> None:
    samples()(path, model)
    with h5py.File(path, "a") as file:
        del file["samples"]
        outside = [("/etc/passwd", 0, 64)]
        file.create_dataset("samples", (8, 2), np.float32, external=outside)


def gigantic_samples(path: Path, model: Path) -> None:
    samples()(path, model)
    with h5py.File(path, "a") as file:
        del file["samples"]
        file.create_dataset("samples", (1 << 40, 2), np.float32, chunks=(1024, 2))


def pickled_npy(path: Path, model: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{}, 1], dtype=object), allow_pickle=True)


def npy_with_nan(path: Path, model: Path) -> None:
    values = np.zeros((20, 2), np.float32)
    values[7, 1] = np.nan
    with path.open("wb") as file:
        np.save(file, values)


def gigantic_npy(path: Path, model: Path) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 38, 2)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))


ANYTHING: dict[str, Make] = {
    "empty": raw(b""),
    "noise": raw(bytes(range(256)) * 40),
    "pickled by torch": pickled,
    "pickled": raw(pickle.dumps([1, 2, 3])),
    "gigantic header": raw((1 << 62).to_bytes(8, "little") + b"{" + b" " * 100),
    "header longer than the file": raw((15 << 20).to_bytes(8, "little") + b"{" + b" " * 100),
    "HDF5 without content": raw(b"\x89HDF\r\n\x1a\n" + b"\0" * 2000),
    "truncated model": truncated_model,
    "model with NaN": model_with_nan,
    "model of a future version": metadata(format_version="3"),
    "model with a deeply nested config": metadata(config="[" * 100_000),
    "truncated samples": truncated_samples,
    "samples with NaN": samples(samples=np.full((8, 2), np.nan, np.float32)),
    "samples of a future version": samples(format_version=2),
    "samples that are text": samples(samples=np.array([b"a", b"b"])),
    "samples behind an external link": linked_samples,
    "samples stored elsewhere": stored_elsewhere,
    "gigantic samples": gigantic_samples,
}
# Sound files: only who builds the model finds that it is not what the config says.
MODELS: dict[str, Make] = {
    "of an unknown kind": metadata(kind="transformer"),
    "of a kind that is not sampled": metadata(kind="vae"),
    "of another shape": config(shape=[3]),
    "of other layers": config(hidden=[16, 17]),
    "gigantic": config(hidden=[65536] * 200),
    "of gigantic images": config(shape=[3, 1 << 30, 1 << 30]),
    "of many stages": config(annealing="staged", levels=[float(n) for n in range(9999, 0, -1)]),
    "without levels": config(levels=[]),
    "with levels beyond float32": config(levels=[1e300, 1e-300]),
    "with a scale of nothing": config(data_scale=[1e-300]),
    "with an order beyond 64 bits": config(order="random", order_seed=1 << 70),
    "with an unknown setting": config(surprise=1),
    "with a tensor renamed": model_with_a_tensor_renamed,
}
DATA: dict[str, Make] = {
    "pickled npy": pickled_npy,
    "npy with NaN": npy_with_nan,
    "gigantic npy": gigantic_npy,
    "table with NaN": raw(b"1,2\n3,nan\n"),
    "ragged table": raw(b"1,2\n3\n4,5\n"),
    "table of words": raw(b"a,b\nc,d\n"),
}


@pytest.fixture
def refused(apart: Call, vector_model: Path, tmp_path: Path) -> Callable[..., None]:
    """Asserts how a command refuses the hostile file that `make` writes."""

    def check(make: Make, *arguments: str, code: int = 65) -> None:
        hostile = tmp_path / "hostile"
        make(hostile, vector_model)
        before = sorted(tmp_path.iterdir())
        words = {"FILE": hostile.name, "MODEL": str(vector_model)}
        done = apart(*(words.get(word, word) for word in arguments))
        assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
        assert done.err.startswith(f"arcsm {arguments[0]}: {hostile.name}")
        assert sorted(tmp_path.iterdir()) == before
        assert done.seconds < SECONDS
        assert done.memory < MEMORY

    return check


# Commands share their readers, so one of them reads every file, and each of them some.
SOME = ("noise", "truncated model", "samples behind an external link")
COMMANDS = (
    "sample FILE -n 2 -o s.h5",
    "eval FILE",
    "eval MODEL FILE -o s.h5",
    "train FILE --steps 2 --hidden 8 -o m.safetensors",
)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [*(("info FILE", name) for name in ANYTHING), *((c, name) for c in COMMANDS for name in SOME)],
)
def test_a_hostile_file_is_refused_in_one_line_that_names_it(
    name: str, arguments: str, refused: Callable[..., None]
) -> None:
    if arguments == "eval FILE" and "model" in name:
        arguments = "eval FILE gaussian:2"  # samples are measured by themselves
    refused(ANYTHING[name], *arguments.split())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_what_it_claims_is_refused(
    name: str, refused: Callable[..., None]
) -> None:
    refused(MODELS[name], *["sample", "FILE", "-n", "2", "-o", "s.h5"])


@pytest.mark.parametrize("name", DATA)
def test_hostile_data_are_refused(name: str, refused: Callable[..., None]) -> None:
    refused(DATA[name], *["eval", "MODEL", "FILE", "-o", "s.h5"])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("sample - -o s.h5", "pickled by torch"),
        ("eval -", "truncated samples"),
        ("info -", "empty"),
        ("train - -o m", "truncated samples"),
    ],
)
def test_hostile_bytes_from_a_pipe_are_refused_by_that_name(
    command: str, name: str, apart: Call, vector_model: Path, tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile"
    ANYTHING[name](hostile, vector_model)
    done = apart(*command.split(), stdin=hostile)
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert "standard input" in done.err
    assert list(tmp_path.iterdir()) == [hostile]


@pytest.mark.parametrize(
    "arguments",
    [
        "sample FILE -o s.h5",
        "eval FILE gaussian:2",
        "eval MODEL FILE",
        "eval FILE --against gaussian:2",
        "info FILE",
        "train FILE -o m.safetensors",
        "train gaussian:2 --config FILE -o m.safetensors",
    ],
)
def test_a_file_that_is_not_there_is_code_66(arguments: str, refused: Callable[..., None]) -> None:
    refused(lambda path, model: None, *arguments.split(), code=66)


@pytest.mark.parametrize("arguments", ["sample . -o s.h5", "eval /dev/zero", "info /dev/null"])
def test_what_is_no_file_is_refused(arguments: str, apart: Call, tmp_path: Path) -> None:
    done = apart(*arguments.split())
    assert (done.code, done.err.count("\n"), arguments.split()[1] in done.err) == (65, 1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "device"),
    [("info -", "/dev/zero"), ("eval -", "/dev/null"), ("train - -o m", "/dev/full")],
)
def test_a_device_as_standard_input_is_not_read(
    arguments: str, device: str, apart: Call, tmp_path: Path
) -> None:
    done = apart(*arguments.split(), stdin=device)
    assert (done.code, done.err.count("\n")) == (65, 1)
    assert "standard input: is a folder or a device" in done.err
    assert list(tmp_path.iterdir()) == []


def changed_state(**changes: Any) -> Make:
    def make(path: Path, resume: Path) -> None:
        header, tensors = split(resume)
        state = json.loads(header["__metadata__"]["state"]) | changes
        header["__metadata__"]["state"] = json.dumps(state)
        join(path, header, tensors)

    return make


@pytest.mark.parametrize(
    "make",
    [
        raw(b""),
        truncated_model,
        metadata(format_version="3"),
        metadata(arcsm_format="checkpoint"),
        metadata(state="{}"),
        model_with_nan,
        changed_state(step=-1),
        changed_state(step="many"),
        changed_state(config={}),
        changed_state(history=[]),
        changed_state(settings={"steps": "many"}),
    ],
    ids=[
        *("empty", "truncated", "future", "checkpoint", "no state", "NaN"),
        *("negative step", "step of words", "no config", "no history", "settings of words"),
    ],
)
def test_a_damaged_resume_file_is_refused_and_the_checkpoint_kept(
    make: Make, apart: Call, vector_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(vector_model.read_bytes())
    resume = tmp_path / "model.safetensors.resume"
    make(resume, vector_model.with_name(resume.name))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    options = ("--steps", 20, "--hidden", "16,16", "-o", "model.safetensors", "--resume")
    done = apart("train", *VECTORS, *options)
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert resume.name in done.err
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_a_resume_file_cannot_make_the_model_gigantic(
    apart: Call, vector_model: Path, tmp_path: Path
) -> None:
    resume = tmp_path / "model.safetensors.resume"
    good = vector_model.with_name(resume.name)
    state = json.loads(split(good)[0]["__metadata__"]["state"])
    changed_state(config=state["config"] | {"hidden": [65536] * 200})(resume, good)
    options = ("--steps", 20, "--hidden", "16,16", "-o", "model.safetensors", "--resume")
    done = apart("train", *VECTORS, *options)
    assert (done.code, done.err.count("\n"), "--hidden" in done.err) == (2, 1, True)
    assert done.memory < MEMORY
