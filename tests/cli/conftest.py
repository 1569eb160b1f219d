"""The real program through real pipes, and small files for it to read."""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

REPOSITORY = Path(__file__).resolve().parents[2]

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]


@pytest.fixture(autouse=True)
def log_of_the_run_alone() -> Iterator[None]:
    """Takes off what a run within this process logs through, whichever way it was started."""
    yield
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if type(h).__module__ != "arcsm_cli.cli.log"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def run_arcsm(
    program: list[str], environment: dict[str, str], tmp_path: Path, call: Callable[..., "Done"]
) -> RunArcsm:
    """Runs ``arcsm`` with arguments in an empty folder; text streams unless ``text=False``.

    In this process, but where streams of the test's own make it a real start.
    """

    def run(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[Any]":
        stdin = getattr(options.get("stdin"), "name", None if "stdin" in options else os.devnull)
        if stdin is not None and options.keys() <= {"env", "text", "stdin"}:
            done = call(*arguments, env=options.get("env"), stdin=stdin)
            out = done.out.decode() if options.get("text", True) else done.out
            err = done.err if options.get("text", True) else done.err.encode()
            return subprocess.CompletedProcess(list(map(str, arguments)), done.code, out, err)
        settings: dict[str, Any] = {"capture_output": True, "text": True, "cwd": tmp_path}
        if {"stdout", "stderr"} & options.keys():
            settings["capture_output"] = False
        if "stdin" not in options and "input" not in options:
            settings["stdin"] = subprocess.DEVNULL
        settings |= {"env": environment, "timeout": 300} | options
        return subprocess.run([*program, *map(str, arguments)], **settings)

    return run


@pytest.fixture
def write_samples(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sample file of numbers that count up from `first`, with labels and a statistic."""

    def write(
        name: str,
        count: int = 4,
        shape: tuple[int, ...] = (2,),
        first: int = 0,
        extra: bool = True,
        chain: list[dict[str, Any]] | None = None,
    ) -> Path:
        from arcsm_cli.io.samples import SampleWriter

        rows = np.arange(first, first + count, dtype=np.float32)
        values = np.broadcast_to(rows.reshape(-1, *(1 for _ in shape)), (count, *shape))
        path = tmp_path / name
        with SampleWriter(path, shape, chain or []) as writer:
            if extra:
                writer.append(values, labels=rows.astype(int), statistics={"nll": rows / 2})
            else:
                writer.append(values)
        return path

    return write


@pytest.fixture
def samples(write_samples: Callable[..., Path]) -> Path:
    """A small sample file."""
    return write_samples("samples.h5")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with its resume file beside it."""
    import torch

    from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint, save_resume
    from arcsm_cli.io.provenance import make_entry

    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    entry = make_entry(command="train", arguments=["rings"], seed=1, inputs={"rings": "0" * 64})
    tensors = {"net.weight": torch.ones(3, 4), "net.mask": torch.ones(3, 4, dtype=torch.bool)}
    config, training = {"context": "made", "shape": [2]}, {"step": 7, "epoch": 1}
    save_checkpoint(path, Checkpoint("ar-csm", config, training, [entry], tensors))
    resume = path.with_name(f"{path.name}.resume")
    save_resume(resume, {"adam": torch.ones(5)}, {"step": 7})
    return path
