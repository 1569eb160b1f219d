"""Speeds on one device, as JSON lines: ``python bench/gpu/measure.py WHAT DEVICE DATA|MODEL``.

``steps``: training steps of the small PixelCNN++ by csm in single precision, in bf16 and compiled.
``sampling``: whole samples of untrained models, with CUDA graphs and without. ``samplers``: whole
samples of a distilled model by the probability flow and by its quantile functions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.models.cuda_graphs import CudaGraphs
from arcsm_cli.models.load import load_model
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.registry import CONTEXTS
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import choose_sampler, default_sampler
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import Follower
from arcsm_cli.training.state import TrainState

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
SIZES: dict[str, dict[str, Any]] = {
    "pixelcnn": {"size": "small", "dropout": 0.0},
    "transformer": {"size": "small"},
}


TOY: dict[str, dict[str, Any]] = {
    "pixelcnn": {"filters": 4, "resnet_blocks": 1, "dropout": 0.0, "score_hidden": (8,)},
    "transformer": {"layers": 1, "heads": 2, "width": 8},
}


def wait(device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    if device != "cpu":
        torch.cuda.synchronize(device)


class Clock(Follower):
    """Takes the time of the steps after the first ``warm``."""

    def __init__(self, device: str, warm: int) -> None:
        super().__init__()
        self.device, self.warm, self.start = device, warm, 0.0

    def stepped(self, state: TrainState, loss: float) -> None:
        if state.step == self.warm:
            wait(self.device)
            self.start = time.perf_counter()


def run(
    data: Dataset, device: str, network: dict[str, Any], steps: int, warm: int, **settings: Any
) -> float:
    """Train a network for ``warm`` steps and ``steps`` more; return seconds of each of those."""
    config = model_config(data, Choices(**network))
    total = warm + steps
    every = {"steps": total, "validate_every": 10 * total, "checkpoint_every": 10 * total}
    state = fresh_state(config, TrainSettings(**every, **settings), device)
    clock = Clock(device, warm)
    train(state, data, data.limit(8), clock)
    wait(device)
    return (time.perf_counter() - clock.start) / steps


def matmul_peak(device: str, size: int) -> float:
    """Return bf16 operations a second of one large matrix product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    wait(device)
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    wait(device)
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def steps(data: Dataset, device: str, *, toy: bool) -> None:
    """Print steps and images a second, memory and the share of what the device can do in bf16."""
    batch, count, warm = (4, 2, 1) if toy else (128, 60, 20)
    # A CPU takes minutes to compile PixelCNN++.
    network = {"hidden": (8,)} if toy else {"context": "pixelcnn", **SIZES["pixelcnn"]}
    flops = []
    for n in (1, 2):
        with FlopCounterMode(display=False) as counter:
            run(data, device, network, n, 0, batch_size=min(batch, 16))
        flops.append(counter.get_total_flops())
    each = (flops[1] - flops[0]) * batch / min(batch, 16)
    peak = matmul_peak(device, 256 if toy else 8192)
    for name, settings in PRECISIONS.items():
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = run(data, device, network, count, warm, batch_size=batch, **settings)
        except Exception as error:
            print(json.dumps({"steps": name, "failed": repr(error)[:300]}), flush=True)
            continue
        row = {"steps": name, "batch": batch, "steps_per_s": 1 / seconds}
        row |= {"images_per_s": batch / seconds, "of_bf16_peak": each / seconds / peak}
        if device != "cpu":
            row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps(row), flush=True)


def plainly(graphs: CudaGraphs, key: Any, work: Callable[[], None]) -> None:
    """Do a piece of work as if there were no graphs."""
    work()


def seconds_of(model: Any, sampler: Any, count: int, device: str) -> float:
    """Return seconds of ``count`` whole samples, of the second time that they are drawn."""
    for seed in range(2):
        wait(device)
        start = time.perf_counter()
        sample(model, sampler, SampleNoise(seed, range(count), device))
        wait(device)
    return time.perf_counter() - start


def sampling(data: Dataset, device: str, *, toy: bool) -> None:
    """Print seconds of whole samples by the default sampler, over every context network."""
    count, sizes = (2, TOY) if toy else (256, SIZES)
    with_graphs = CudaGraphs.run
    for context in CONTEXTS:
        model = None
        for name, way in {"graphs": with_graphs, "no graphs": plainly}.items():
            row: dict[str, Any] = {"sampling": context, "way": name, "samples": count}
            try:
                CudaGraphs.run = way  # type: ignore[method-assign]
                if model is None:
                    choices = Choices(context=context, **sizes.get(context, {}))
                    state = fresh_state(model_config(data, choices), TrainSettings(), device)
                    model = state.averaged_model()
                row["seconds"] = seconds_of(model, default_sampler(model), count, device)
            except Exception as error:
                row["failed"] = repr(error)[:300]
            print(json.dumps(row), flush=True)
            if device == "cpu":
                break
    CudaGraphs.run = with_graphs  # type: ignore[method-assign]


def samplers(path: str, device: str, *, toy: bool) -> None:
    """Print seconds of whole samples of a distilled model by each of two samplers."""
    _, model = load_model(path)
    model, count = model.to(device), 2 if toy else 256
    for name in ("ode", "quantile"):
        seconds = seconds_of(model, choose_sampler(model, name), count, device)
        print(json.dumps({"sampler": name, "samples": count, "seconds": seconds}), flush=True)


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("steps", "sampling", "samplers"))
    parser.add_argument("device")
    parser.add_argument("data", help="DATA of images, or a checkpoint")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.what == "samplers":
        samplers(options.data, options.device, toy=options.toy)
        return
    how = DataOptions(limit=64, resize=4) if options.toy else DataOptions()
    data = load_data(options.data, how, default_split="train")
    {"steps": steps, "sampling": sampling}[options.what](data, options.device, toy=options.toy)


if __name__ == "__main__":
    main()
