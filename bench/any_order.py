"""Transformers beside MADE and PixelCNN++ at equal CPU time, and masks filled two ways.

Prints a line for each model: held-out bits/dim (of the last level's density, by the flow), of
models of any order also averaged over orders, and the energy distance of samples to test data. Then
the lower halves of test images, drawn given the upper ones: by the model of any order, one draw
and the mean of several, and by particles with each model that follows one order.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from equal_time import within
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.denoising.corruption import Mask
from arcsm_cli.denoising.restorers import Denoiser, Task, known_first, particles
from arcsm_cli.evaluation.any_order import Question, part_log_likelihood
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.evaluation.model_metrics import bits_per_dimension
from arcsm_cli.evaluation.restoration import psnr, ssim
from arcsm_cli.evaluation.sample_metrics import energy_distance
from arcsm_cli.io.checkpoint import save_checkpoint
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.randomness import Purpose, SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import Follower
from arcsm_cli.training.state import TrainState

MODELS: dict[str, dict[str, Any]] = {
    "made": {"context": "made"},
    "transformer": {"context": "transformer"},
    "any": {"context": "transformer", "order": "any"},
    "pixelcnn": {"context": "pixelcnn", "filters": 32, "resnet_blocks": 1},
}
RATES = {"pixelcnn": 4e-3}  # in place of the network's own: best in bits/dim after 150 steps


def trained(data: Dataset, name: str, options: argparse.Namespace) -> tuple[ARCSM, dict[str, Any]]:
    """Train a model for the CPU time that each has; return it and what it cost."""
    noise = {} if options.sigma_min is None else {"sigma_min": options.sigma_min}
    config = model_config(data, Choices(**MODELS[name], **noise))
    batch = options.batch_size if name == "made" else options.deep_batch_size
    rate = RATES.get(name, config.network.rates[0])

    def run(steps: int) -> TrainState:
        every = {"validate_every": steps, "checkpoint_every": steps, "seed": options.seed}
        settings = TrainSettings(
            steps=steps, batch_size=batch, lr=rate, ema=0.99, precision=options.precision, **every
        )
        state = fresh_state(config, settings, "cpu")
        train(state, data, data.limit(batch), Follower())
        return state

    state, seconds = within(options.seconds, run, options.probe)
    model = state.averaged_model().eval()
    assert isinstance(model, ARCSM)
    if options.save:
        save_checkpoint(options.save / f"{name}.safetensors", state.checkpoint([], "", {}))
    weights = sum(p.numel() for p in model.parameters())
    return model, {"weights": weights, "steps": state.step, "seconds": round(seconds)}


def measured(model: ARCSM, test: Tensor, options: argparse.Namespace) -> dict[str, float]:
    """Return bits/dim of test images and the energy distance of as many samples."""
    count = len(test)
    noise = SampleNoise(options.seed, range(count), purpose=Purpose.MEASURED)
    rows = Batch.of(model.sort(test))
    rows = rows.holding(rows.x + model.sigma_min * noise.normal(rows.x.shape[1]))
    found = {"bpd": bits_per_dimension(model, -float(log_likelihood(model, rows).sum(1).mean()))}
    if model.config.order == "any":
        nothing = torch.zeros(rows.x.shape[1], dtype=torch.bool)
        question = Question(~nothing, nothing, options.orders, options.seed)
        nats = part_log_likelihood(model, rows, question)
        found["bpd_of_orders"] = bits_per_dimension(model, -float(nats.mean()))
    drawn = sample(
        model, default_sampler(model), SampleNoise(options.seed, range(count)), denoise=True
    )
    return found | {"energy": energy_distance(drawn.clamp(0, 1), test)}


def filled(denoiser: Denoiser, clean: Tensor, mask: Mask, seed: int) -> dict[str, float]:
    """Return how near restored images are, and CPU seconds an image."""
    model, numbers = denoiser.model, range(len(clean))
    start = time.process_time()
    observed = Batch.of(model.sort(mask(clean, SampleNoise(seed, numbers))))
    noise = SampleNoise(seed, numbers, purpose=Purpose.RESTORATION)
    restored = model.unsort(denoiser(observed, noise, lambda done: None)).clamp(0, 1)
    restored = torch.where(mask.hidden, restored, clean)
    seconds = (time.process_time() - start) / len(clean)
    found = {"psnr": float(psnr(restored, clean).mean()), "seconds_an_image": seconds}
    if min(clean.shape[-2:]) >= 11:  # the window of ssim
        found["ssim"] = float(ssim(restored, clean).mean())
    return found


def main() -> None:
    """Run the comparison and print it as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="CPU seconds a model")
    parser.add_argument("--batch-size", type=int, default=64, help="of MADE")
    parser.add_argument("--deep-batch-size", type=int, default=64, help="of the others")
    parser.add_argument("--probe", type=int, default=50, help="steps that tell how many fit")
    parser.add_argument("--sigma-min", type=float, default=None)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--count", type=int, default=200, help="test images, and samples")
    parser.add_argument("--masked", type=int, default=50, help="images whose half is filled in")
    parser.add_argument("--draws", type=int, default=8, help="draws whose mean is measured")
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="made,transformer,any", help=", ".join(MODELS))
    parser.add_argument("--save", type=Path, default=None, help="a folder for the models")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--resize", type=int, default=None)
    parser.add_argument("data", nargs="?", default="digits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = DataOptions(data_dir=options.data_dir, resize=options.resize)
    data = load_data(options.data, where, default_split="train")
    test = load_data(options.data, where, default_split="test")
    clean = test.take(torch.arange(min(options.count, len(test))))
    hidden = torch.zeros(clean.shape[1:], dtype=torch.bool)
    hidden[:, hidden.shape[1] // 2 :] = True
    mask, some = Mask(hidden), clean[: options.masked]
    for name in options.models.split(","):
        model, cost = trained(data, name, options)
        row = {"data": options.data, "model": name} | cost
        print(json.dumps(row | measured(model, clean, options)), flush=True)
        task = Task(model, mask, 0.0, -1)
        ways = {"particles": particles(task), "particles' average": particles(task, draw=False)}
        if name == "any":
            ways = {"a draw": known_first(task)}
            ways[f"the mean of {options.draws} draws"] = known_first(task, options.draws)
        for way, denoiser in ways.items():
            print(
                json.dumps(row | {"way": way} | filled(denoiser, some, mask, options.seed)),
                flush=True,
            )


if __name__ == "__main__":
    main()
