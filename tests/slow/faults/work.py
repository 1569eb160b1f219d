"""What the program is doing when a fault strikes, and what its files must hold afterwards."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]

MODEL, DIGITS, SHARDS = "model.safetensors", "digits.safetensors", ("a.h5", "b.h5")
STDOUT = "stdout"

_TINY = ("--hidden", "16,16", "--score-hidden", "16", "-q")
_SAVES = ("--checkpoint-every", "1", "-o", "out.safetensors")
_CONV = ("--context", "pixelcnn", "--filters", "4", "--resnet-blocks", "1", "--score-hidden", "16")


@dataclass(frozen=True)
class Work:
    """A command line.

    Attributes:
        arguments: after the program's name.
        outputs: the files that it makes, in order; `STDOUT` is a file for standard output.
        inputs: files of `prepare` that lie in the folder.
        resumes: with ``--resume`` it goes on where it was interrupted.
        stdin: which of the inputs is standard input.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    resumes: bool = False
    stdin: str | None = None

    @property
    def known(self) -> set[str]:
        """The names that may be in the folder."""
        beside = {f"{name}.reference" for name in self.inputs}
        resume = {f"{name}.resume" for name in self.outputs} if self.resumes else set()
        return {*self.inputs, *self.outputs, *beside, *resume}


def _training(*arguments: str) -> Work:
    return Work((*arguments, *_SAVES), ("out.safetensors",), resumes=True)


WORKS = {
    "train": _training(
        "train", "gaussian:2", "--limit", "400", "--batch-size", "32", "--steps", "25", *_TINY
    ),
    "train-staged": _training(
        *("train", "rings", "--limit", "200", "--batch-size", "16", "--steps", "8", *_TINY),
        *("--annealing", "staged", "--levels", "3", "--sigma-min", "0.1"),
    ),
    "train-mle": _training(
        *("train", "moons", "--objective", "mle", "--limit", "200", "--batch-size", "16"),
        *("--steps", "25", "--hidden", "16,16", "-q"),
    ),
    "train-pixelcnn": _training(
        *("train", "digits", "--limit", "40", "--batch-size", "4", "--steps", "5", "-q"),
        *(*_CONV, "--dropout", "0.5"),
    ),
    "vae-train": _training(
        *("vae-train", "digits", "--limit", "100", "--batch-size", "10", "--latent-dim", "2"),
        *("--hidden", "16,16", "--steps", "20", "-q"),
    ),
    "sample": Work(
        ("sample", MODEL, "-n", "3000", "--batch-size", "100", "-q", "-o", "out.h5"),
        ("out.h5",),
        (MODEL,),
    ),
    "sample-png": Work(
        ("sample", DIGITS, "-n", "20", "--steps", "1", "-q", "-o", "out.h5", "--png", "out.png"),
        ("out.h5", "out.png"),
        (DIGITS,),
    ),
    "sample-pipe": Work(
        ("sample", "-", "-n", "500", "-q", "-o", "-"), (STDOUT,), (MODEL,), stdin=MODEL
    ),
    "denoise": Work(
        *(("denoise", DIGITS, "digits", "--corrupt", "gaussian:0.5", "--limit", "30"),),
        *(("out.h5",), (DIGITS,)),
    ),
    "ood-score": Work(
        *(("ood-score", MODEL, "gaussian:2", "--limit", "500"), ("out.h5",), (MODEL,)),
    ),
    "eval": Work(("eval", MODEL, "gaussian:2", "--limit", "200"), ("out.h5",), (MODEL,)),
    "merge": Work(("merge", *SHARDS), ("out.h5",), SHARDS),
    "merge-pipe": Work(("merge", "-", SHARDS[1]), ("out.h5",), SHARDS, stdin=SHARDS[0]),
    "data": Work(("data", "digits"), ("out.h5",)),
    "plot": Work(("plot", SHARDS[0]), ("out.png",), SHARDS[:1]),
}
for _name in ("denoise", "ood-score", "eval", "merge", "merge-pipe", "data", "plot"):
    _work = WORKS[_name]
    _full = (*_work.arguments, "-q", "-o", _work.outputs[0])
    WORKS[_name] = Work(_full, _work.outputs, _work.inputs, stdin=_work.stdin)


class Loss(AssertionError):
    """A file that is neither absent nor whole, or another promise that was broken."""


def demand(condition: object, what: str) -> None:
    """Raise `Loss` unless the condition holds."""
    if not condition:
        raise Loss(what)


def prepare(call: Call, folder: Path) -> None:
    """Make the inputs of all `WORKS` in a folder."""
    made: list[tuple[str, ...]] = [
        ("train", "gaussian:2", "--steps", "20", *_TINY, "-o", MODEL),
        ("train", "digits", "--steps", "20", *_TINY, "-o", DIGITS),
        *(
            ("sample", MODEL, "-n", "2000", "--shard", f"{i}/2", "--steps", "2", "-o", name)
            for i, name in enumerate(SHARDS)
        ),
    ]
    for arguments in made:
        done = call(folder, *arguments)
        demand(done.code == 0, f"{arguments}: {done.err}")
    for name in (MODEL, DIGITS):
        (folder / f"{name}.resume").unlink()


def content(path: Path) -> str:
    """SHA-256 of what a file holds, read as a whole; of who made it and when, nothing.

    Raises:
        ArcsmError: it is damaged.
    """
    if path.suffix == ".png":
        return _picture(path)
    if path.suffix == ".reference":
        from arcsm_cli.io.reference_file import load_reference_file

        return _digest([repr(load_reference_file(path)).encode()])
    if path.suffix == ".resume":
        from arcsm_cli.io.checkpoint import load_resume

        tensors, state = load_resume(path)
        state.pop("provenance")
        return _of_tensors(tensors, state)
    if path.suffix == ".safetensors":
        from arcsm_cli.io.checkpoint import load_checkpoint

        found = load_checkpoint(path)
        return _of_tensors(found.tensors, [found.kind, found.config, found.training])
    return _of_samples(path)


def step(path: Path) -> int:
    """How many steps a checkpoint or a resume file has behind it."""
    from arcsm_cli.io.checkpoint import load_checkpoint, load_resume

    state = load_resume(path)[1] if path.suffix == ".resume" else load_checkpoint(path).training
    found: int = state["step"]
    return found


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()


def _of_tensors(tensors: dict[str, Any], about: Any) -> str:
    parts = [json.dumps(about, sort_keys=True).encode()]
    for name, tensor in sorted(tensors.items()):
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), tensor.numpy().tobytes()]
    return _digest(parts)


def _of_samples(path: Path) -> str:
    from arcsm_cli.io.samples import SampleFile

    with SampleFile(path) as file:
        parts = [repr(file.shape).encode()]
        for name in file.names:
            parts += [name.encode(), file.read(0, len(file), name).tobytes()]
    return _digest(parts)


def _picture(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return _digest([repr(image.size).encode(), image.convert("RGB").tobytes()])
