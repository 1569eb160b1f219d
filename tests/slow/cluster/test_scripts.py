"""The scripts of docs/cluster, on a real SLURM: they train, sample, resume and chain."""

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.slow.cluster.conftest import SCRIPTS, Cluster

SMALL = ("gaussian:4", "--hidden", "16,16", "--batch-size", "64")
LONG = (*SMALL, "--steps", "1000", "--checkpoint-every", "20")
SHORT = (*SMALL, "--steps", "60")


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, slurm: dict[str, str]) -> Callable[..., Path]:
    """Runs a training in this machine's plain shell; returns the checkpoint, made once."""
    folder, made = tmp_path_factory.mktemp("alone"), dict[tuple[str, ...], Path]()

    def train(*arguments: str) -> Path:
        if arguments not in made:
            path = folder / f"{len(made)}.safetensors"
            subprocess.run(
                ["arcsm", "train", *arguments, "-o", path],
                env=slurm,
                check=True,
                timeout=300,
                capture_output=True,
            )
            made[arguments] = path
        return made[arguments]

    return train


def weights(path: Path) -> str:
    """SHA-256 of all weights."""
    from arcsm_cli.io.checkpoint import load_checkpoint

    digest = hashlib.sha256()
    for name, tensor in sorted(load_checkpoint(path).tensors.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def curves(path: Path) -> dict[str, Any]:
    from arcsm_cli.io.checkpoint import load_checkpoint

    history: dict[str, Any] = load_checkpoint(path).training["history"]
    return history


def checkpointed(cluster: Cluster) -> None:
    """Waits for the first save of a training in the folder."""
    cluster.until((cluster.folder / "m.safetensors").exists, "there is a checkpoint")


@pytest.mark.parametrize(
    ("script", "announce"),
    [("single-gpu.sbatch", ("scancel", "--batch")), ("multi-gpu.sbatch", ("scancel",))],
    ids=["to the script", "to every process"],
)
def test_a_signalled_job_is_requeued_and_ends_with_the_weights_of_one_never_stopped(
    cluster: Cluster, alone: Callable[..., Path], script: str, announce: tuple[str, ...]
) -> None:
    job = cluster.submit(script, "train", *LONG, "--resume", "-o", "m.safetensors")
    checkpointed(cluster)
    cluster.run(*announce, "--signal=USR1", job)
    cluster.until(lambda: "stopped by SIGUSR1 at step" in cluster.log(job), "it stops")
    assert cluster.wait(job) == "COMPLETED"
    log = cluster.log(job)
    assert log.count("stopped by SIGUSR1 at step") == 1, "one process speaks for all"
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    uninterrupted = alone(*LONG)
    if script == "single-gpu.sbatch":
        assert weights(cluster.folder / "m.safetensors") == weights(uninterrupted)
    mine, theirs = curves(cluster.folder / "m.safetensors"), curves(uninterrupted)
    assert mine["step"] == theirs["step"]
    assert np.allclose(mine["valid_loss"], theirs["valid_loss"], rtol=1e-3, atol=1e-3)


def test_a_preempted_job_goes_on_and_ends_with_the_weights_of_one_never_stopped(
    cluster: Cluster, alone: Callable[..., Path]
) -> None:
    job = cluster.submit("preemptible.sbatch", *LONG, "-o", "m.safetensors")
    checkpointed(cluster)
    cluster.run("scontrol", "requeue", job)  # as preemption does
    assert cluster.wait(job) == "COMPLETED"
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    assert weights(cluster.folder / "m.safetensors") == weights(alone(*LONG))


def test_processes_on_two_nodes_train_as_one_does(
    cluster: Cluster, alone: Callable[..., Path]
) -> None:
    job = cluster.submit("multi-node.sbatch", "train", *SHORT, "-o", "m.safetensors")
    assert cluster.wait(job) == "COMPLETED", cluster.log(job)
    mine, theirs = curves(cluster.folder / "m.safetensors"), curves(alone(*SHORT))
    for name in ("loss", "valid_loss"):
        assert np.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in cluster.folder.iterdir()) == [
        f"arcsm-{job}.log",
        "m.safetensors",
        "m.safetensors.resume",
    ]


def test_a_process_that_is_killed_ends_the_job_and_leaves_a_checkpoint_to_go_on_from(
    cluster: Cluster, alone: Callable[..., Path]
) -> None:
    job = cluster.submit("multi-node.sbatch", "train", *LONG, "--resume", "-o", "m.safetensors")
    checkpointed(cluster)
    output = f"{cluster.folder / 'm.safetensors'}"
    found = cluster.run("pgrep", "-f", "arcsm train .*m.safetensors").split()
    ranks = [
        pid
        for pid in found
        if b"SLURM_PROCID=3" in Path("/proc", pid, "environ").read_bytes()
        and str(Path("/proc", pid, "cwd").resolve()) == str(cluster.folder)
    ]
    assert ranks, output
    for pid in ranks:
        subprocess.run(["kill", f"-{signal.SIGKILL}", pid], check=False)
    assert cluster.wait(job) == "FAILED"
    again = cluster.submit("single-gpu.sbatch", "train", *LONG, "--resume", "-o", "m.safetensors")
    assert cluster.wait(again) == "COMPLETED", cluster.log(again)
    mine, theirs = curves(cluster.folder / "m.safetensors"), curves(alone(*LONG))
    assert np.allclose(mine["valid_loss"], theirs["valid_loss"], rtol=1e-3, atol=1e-3)


def test_an_array_draws_the_samples_of_one_process(
    cluster: Cluster, alone: Callable[..., Path]
) -> None:
    model = alone(*SHORT)
    arguments = (model, "-n", "101", "--seed", "5", "--batch-size", "16")
    job = cluster.run(SCRIPTS / "sample-array.sh", "3", "all.h5", *arguments)
    assert cluster.wait(job) == "COMPLETED"
    cluster.run("arcsm", "sample", *arguments, "-o", "one.h5")
    with h5py.File(cluster.folder / "all.h5") as a, h5py.File(cluster.folder / "one.h5") as b:
        assert np.allclose(a["samples"][()], b["samples"][()], rtol=1e-5, atol=1e-6)
    assert not (cluster.folder / "all.h5.parts").exists()


def test_a_sweep_trains_each_line_of_options(cluster: Cluster) -> None:
    (cluster.folder / "sweep.txt").write_text("--lr 1e-3\n--lr 1e-2 --hidden 8,8\n")
    job = cluster.submit(
        "sweep.sbatch", "sweep.txt", "runs", *SMALL, "--steps", "20", options="--array=1-2"
    )
    assert cluster.wait(job) == "COMPLETED"
    first, second = (
        json.loads((cluster.folder / "runs" / f"run-{i}.json").read_text()) for i in (1, 2)
    )
    assert first["metrics"]["step"] == second["metrics"]["step"] == 20
    assert first["parameters"] > second["parameters"]


def test_a_pipeline_trains_samples_and_evaluates(cluster: Cluster) -> None:
    said = cluster.run(SCRIPTS / "pipeline.sh", SMALL[0], "out", "2", "50", *SHORT[1:])
    jobs = [word.strip(",") for word in said.split()[1::2]]
    assert [cluster.wait(job) for job in jobs] == ["COMPLETED"] * 4
    out = cluster.folder / "out"
    assert "nll" in json.loads((out / "likelihood.json").read_text())["metrics"]
    assert json.loads((out / "samples.json").read_text())["samples"] == 50
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors",
        "model.safetensors.resume",
        "likelihood.json",
        "samples.h5",
        "samples.json",
    }
