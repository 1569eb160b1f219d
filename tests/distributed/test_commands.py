"""Two processes of a command do what one does: the same curves and samples, one set of files."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from arcsm_cli.io.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from tests.cli.preloaded import Call, Done, Running, Start

    Together = Callable[..., list[Running]]

TRAIN = ("train", "gaussian:3", "--hidden", "16,16", "--steps", 40, "--batch-size", 33)
PIXELCNN = ("--context", "pixelcnn", "--filters", 4, "--resnet-blocks", 1)
RUNS: dict[str, tuple[Any, ...]] = {
    "csm": TRAIN,
    "mle": (*TRAIN, "--objective", "mle"),
    "staged": (*TRAIN, "--annealing", "staged", "--levels", 2, "--sigma-min", 0.1),
    "pixelcnn": ("train", "digits", *PIXELCNN, "--steps", 3, "--grad-accumulation", 2),
    "vae csm": ("vae-train", "digits", "--hidden", "16,16", "--steps", 12, "--batch-size", 33),
    "vae ssm": (
        *("vae-train", "digits", "--method", "ssm", "--hidden", "16,16", "--steps", 12),
        *("--batch-size", 33),
    ),
}


@pytest.fixture
def together(start: Start) -> Together:
    """Starts two processes of a command, as torchrun would."""

    def run(*arguments: object, **options: Any) -> list[Running]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        return [
            start(*arguments, env=shared | {"RANK": rank, "LOCAL_RANK": rank}, **options)
            for rank in "01"
        ]

    return run


def ends(running: list[Running]) -> list[Done]:
    return [process.wait() for process in running]


def training(path: Path) -> dict[str, Any]:
    return load_checkpoint(path).training


def weights(path: Path) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in load_checkpoint(path).tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name == "csm" else pytest.param(name, marks=pytest.mark.slow) for name in RUNS],
)
def test_two_processes_have_the_loss_curves_of_one(
    call: Call, together: Together, tmp_path: Path, name: str
) -> None:
    first, second = ends(together(*RUNS[name], "-o", "two.safetensors", "--json"))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert (second.out, second.err) == (b"", "")
    assert "loss" in first.json["metrics"]
    assert call(*RUNS[name], "-o", "one.safetensors").code == 0
    two, one = (training(tmp_path / f"{n}.safetensors") for n in ("two", "one"))
    assert two["history"]["step"] == one["history"]["step"]
    for curve in ("loss", "valid_loss"):
        assert np.allclose(two["history"][curve], one["history"][curve], rtol=2e-3, atol=1e-4)
    assert load_checkpoint(tmp_path / "two.safetensors").provenance[-1]["processes"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "{model}", "-n", 41, "--batch-size", 8, "--seed", 3),
        (
            "denoise",
            "{model}",
            "digits",
            "--limit",
            21,
            "--batch-size",
            8,
            "--corrupt",
            "gaussian:0.3",
        ),
        ("eval", "{model}", "digits", "--limit", 21, "--batch-size", 8, "--metric", "nll,csm"),
        (
            "ood-score",
            "{model}",
            "digits",
            "--limit",
            21,
            "--batch-size",
            8,
            "--reference-limit",
            30,
        ),
    ],
    ids=lambda arguments: arguments[0],
)
def test_two_processes_write_the_very_numbers_of_one(
    call: Call, together: Together, tmp_path: Path, digits_model: Path, arguments: tuple[Any, ...]
) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(digits_model.read_bytes())
    command = [model if part == "{model}" else part for part in arguments]
    dones = ends(together(*command, "-o", "two.h5"))
    assert [done.code for done in dones] == [0, 0], dones
    (tmp_path / "m.safetensors.reference").unlink(missing_ok=True)
    assert call(*command, "-o", "one.h5").code == 0
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "two.h5") as two:
        found: dict[str, Any] = {}
        one.visititems(lambda n, o: found.update({n: o}) if isinstance(o, h5py.Dataset) else None)
        assert "samples" in found
        for name, dataset in found.items():
            assert np.array_equal(dataset[()], two[name][()]), name


@pytest.mark.slow
def test_a_vaes_likelihoods_are_shared(call: Call, together: Together) -> None:
    assert call(*RUNS["vae csm"], "-o", "v.safetensors").code == 0
    command = ("eval", "v.safetensors", "digits", "--limit", 9, "--batch-size", 2, "--json")
    more = ("--metric", "iwae,ais", "--temperatures", 5, "--importance-samples", 5)
    first, second = ends(together(*command, *more))
    assert (first.code, second.code, second.out) == (0, 0, b"")
    assert first.json == call(*command, *more).json


@pytest.mark.slow
def test_a_table_against_other_data_is_that_of_one_process(
    call: Call, together: Together, tmp_path: Path, digits_model: Path
) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(digits_model.read_bytes())
    command = ("ood-score", model, "digits", "--against", "uniform", "--limit", 40, "--json")
    more = ("--reference-limit", 60, "--batch-size", 16, "--bootstrap", 50)
    first, second = ends(together(*command, *more))
    assert (first.code, second.code, second.out) == (0, 0, b"")
    (tmp_path / "m.safetensors.reference").unlink()
    assert first.json == call(*command, *more).json


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_either_process_stops_both_and_what_they_saved_goes_on(
    call: Call, together: Together, tmp_path: Path, signalled: int
) -> None:
    command = (
        *TRAIN[:-4],
        "--steps",
        60,
        "--batch-size",
        33,
        "--resume",
        "--checkpoint-every",
        5,
    )
    processes = together(*command, "-o", "m.safetensors")
    processes[signalled].catch((tmp_path / "m.safetensors").exists)
    processes[signalled].go_on(signal.SIGTERM)
    first, second = ends(processes)
    assert (first.code, second.code) == (75, 75), first.err + second.err
    assert "all saved" in first.err
    assert second.err == ""
    stopped = training(tmp_path / "m.safetensors")["step"]
    assert 5 <= stopped < 60
    assert [done.code for done in ends(together(*command, "-o", "m.safetensors"))] == [0, 0]
    assert [done.code for done in ends(together(*command, "-o", "n.safetensors"))] == [0, 0]
    assert weights(tmp_path / "m.safetensors") == weights(tmp_path / "n.safetensors")


@pytest.mark.slow
def test_what_two_processes_saved_one_can_go_on_with(
    call: Call, together: Together, tmp_path: Path
) -> None:
    # A short run warms up for a fifth of its steps at most: equal in both.
    command = (*TRAIN[:-4], "--batch-size", 33, "--schedule", "constant", "--warmup", 4)
    ends(together(*command, "--steps", 20, "-o", "m.safetensors"))
    assert call(*command, "--steps", 40, "--resume", "-o", "m.safetensors").code == 0
    assert call(*command, "--steps", 40, "-o", "n.safetensors").code == 0
    mine, theirs = (training(tmp_path / f"{n}.safetensors") for n in "mn")
    assert np.isclose(mine["valid_loss"], theirs["valid_loss"], rtol=1e-4, atol=1e-4)


def test_the_death_of_one_process_ends_the_other_with_a_message(
    together: Together, tmp_path: Path
) -> None:
    command = (*TRAIN[:-4], "--steps", 100_000, "--checkpoint-every", 10, "-o", "m.safetensors")
    first, second = together(*command)
    second.catch((tmp_path / "m.safetensors").exists)
    second.go_on(signal.SIGKILL)
    second.wait()
    done = first.wait()
    assert done.code == 69
    assert "another process of this command ended" in done.err
    assert training(tmp_path / "m.safetensors")["step"] >= 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("info", "m.safetensors"), 2, "info takes one process, and torchrun started 2"),
        (("sample", "-", "-o", "s.h5"), 2, "standard input cannot be shared"),
        (("sample", "nosuch.safetensors", "-o", "s.h5"), 66, "no such file"),
        ((*TRAIN[:-1], 1, "-o", "m.safetensors"), 2, "each needs an example"),
    ],
    ids=["one process only", "standard input", "missing", "batch too small"],
)
def test_what_cannot_be_shared_is_refused(
    together: Together, arguments: tuple[Any, ...], code: int, message: str
) -> None:
    first, second = ends(together(*arguments))
    assert (first.code, second.code) == (code, code)
    assert message in first.err
    assert "(rank 1)" in second.err


@pytest.mark.slow
def test_the_switch_makes_them_runs_of_their_own(start: Start, tmp_path: Path) -> None:
    for rank in "01":
        env = {"RANK": rank, "WORLD_SIZE": "2", "ARCSM_DISTRIBUTED": "0"}
        done = start("data", "digits", "--limit", 3, "-o", f"{rank}.h5", env=env).wait()
        assert done.code == 0, done.err
    assert json.dumps(sorted(p.name for p in tmp_path.glob("*.h5"))) == '["0.h5", "1.h5"]'


def test_a_rank_whose_peer_does_not_come_says_so_and_stops_at_once(
    start: Start, digits_model: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = ("sample", digits_model, "-n", 2, "-o", "s.h5")
    late = start(*command, env=env | {"ARCSM_RANK_TIMEOUT": "0.5"}).wait()
    assert late.code == 69
    assert "rank 1 of 2" in late.err
    assert "ARCSM_DISTRIBUTED=0" in late.err  # no launcher is known to have set these
    waiting = start(*command, env=env)
    waiting.catch(lambda: _listens(int(port)))
    waiting.go_on(signal.SIGTERM)
    assert waiting.wait().code == 130


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
