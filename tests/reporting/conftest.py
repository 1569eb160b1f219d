"""A run in small: the files that a report is made of, with texts that mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.io.comparison_file import Comparison, save_comparison
from arcsm_cli.io.provenance import sha256_file
from arcsm_cli.io.samples import SampleWriter

HARM = "<script>parent.harmed = 1</script><img src=http://x.invalid/ onerror='parent.harmed=1'>"


def step(command: str, *arguments: str, **inputs: str) -> dict[str, Any]:
    return {
        "program": "arcsm",
        "command": command,
        "arguments": list(arguments),
        "seed": 0,
        "time": f"2026-01-0{len(inputs) + 1}T00:00:00+00:00",
        "host": HARM,
        "inputs": inputs,
    }


@pytest.fixture(scope="session")
def run_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A checkpoint, samples, restored ones, two scored files, a comparison and a result."""
    tmp_path = tmp_path_factory.mktemp("run")
    noise = np.random.default_rng(0)
    model = tmp_path / "model & co.safetensors"
    train = step("train", "digits", "-o", HARM, data="11" * 32)
    steps = list(range(1, 21))
    history = {"step": steps, "loss": [1 / s for s in steps], "lr": [0.1] * 20}
    config = {"shape": [1, 8, 8], "context": HARM, "levels": [1.0, 0.1]}
    training = {"step": 20, "loss": 0.05, "history": history, "settings": {"objective": HARM}}
    tensors = {"weight": torch.zeros(3, 4)}
    save_checkpoint(model, Checkpoint("ar-csm", config, training, [train], tensors))
    digest = sha256_file(model)

    def write(name: str, command: str, **datasets: Any) -> Path:
        path = tmp_path / name
        chain = [train, step(command, model.name, "-o", name, **{model.name: digest})]
        with SampleWriter(path, (1, 8, 8), chain) as writer:
            writer.append(noise.random((30, 1, 8, 8)), **datasets)
        return path

    scores = ({"multiscale": noise.normal(shift, 1, 30)} for shift in (0, 2))
    result = tmp_path / "result.json"
    result.write_text(json.dumps({
        "model": HARM, "metrics": {"nll": 1.5, "nll_se": 0.1, HARM: 2.0},
        "inputs": {model.name: digest},
    }))  # fmt: skip
    comparison = tmp_path / "cost.h5"
    table = {"method": np.array(["csm", HARM]), "dims": np.array([2.0, 2.0])}
    table |= {"seed": np.zeros(2), "weights": np.ones(2), "stopped": np.array(["", ""])}
    table |= {"seconds": np.array([0.1, 0.2]), "memory": np.array([1.0, 2.0])}
    chain = [step("compare", "cost")]
    save_comparison(comparison, Comparison("cost", {}, {"iterations": table}, chain))
    return [
        model,
        write("samples.h5", "sample"),
        write("restored.h5", "denoise", clean=noise.random((30, 1, 8, 8))),
        *(write(f"scored-{i}.h5", "ood-score", statistics=s) for i, s in enumerate(scores)),
        write("nll.h5", "eval", statistics={"nll": noise.normal(size=30)}),
        comparison,
        result,
    ]
