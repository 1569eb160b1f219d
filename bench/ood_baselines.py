"""Baselines of `arcsm ood-score`: Glow by its likelihood, and an energy model by its energy.

    python bench/ood_baselines.py glow mnist:train mnist:test --against fashion.npz \
      --against uniform --data-dir DATA --seconds 300 --weights glow.safetensors

Glow (Kingma and Dhariwal 2018) is that of normflows (`pip install normflows`), on 8-bit values with
uniform noise. The energy model is trained by Langevin dynamics from a replay buffer (Du and
Mordatch 2019), with the usual step size, noise and bound on gradients. Both are trained on one
thread for `--seconds` of CPU time, the learning rate falling to zero with it; where the file of
weights is there already, they are read from it. Examples with a lower figure, the negative
log-likelihood or the energy, are taken for in-distribution. Prints AUROC with its bootstrap
interval as JSON; `timed.py` trains models of the program for the same time.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cpu_time import train_within
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.evaluation.detection import separations

BATCH = 64


class Baseline(nn.Module):
    """What is trained here: its figure of images is lower the more they are like the data."""

    betas: tuple[float, float]
    rate: float
    clip: float  # of the gradient's norm

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of a batch of images in [0, 1]."""
        raise NotImplementedError

    def figure(self, x: Tensor) -> Tensor:
        """Return the figure of each image (B,)."""
        raise NotImplementedError


class Glow(Baseline):
    """Glow with as many scales as the side can be halved, three at most.

    Arguments:
        shape: C, H, W.
        blocks: steps of flow a scale.
        units: channels of the coupling networks.
    """

    betas, rate, clip = (0.9, 0.999), 1e-3, 100.0

    def __init__(self, shape: tuple[int, ...], *, blocks: int = 8, units: int = 64) -> None:
        super().__init__()
        import normflows as nf

        channels, height, width = shape
        scales = next(n for n in (3, 2, 1) if height % 2**n == 0 and width % 2**n == 0)
        bases, flows = [], []
        for i in range(scales):
            c = channels * 2 ** (scales + 1 - i)
            steps = [nf.flows.GlowBlock(c, units) for _ in range(blocks)]
            flows.append([*steps, nf.flows.Squeeze()])
            halved = 2 ** (scales - i)
            kept = c if i == 0 else c // 2  # the other half goes on to the next scale
            bases.append(nf.distributions.DiagGaussian((kept, height // halved, width // halved)))
        merges = [nf.flows.Merge() for _ in range(scales - 1)]
        self.flow = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)
        self.dimensions = math.prod(shape)

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative log-likelihood, nats a dimension of 256 values."""
        return self.figure(x).mean() / self.dimensions

    def figure(self, x: Tensor) -> Tensor:
        """Return -log p of 8-bit images with uniform noise, in nats of 256 values a dimension."""
        values = ((x * 255).round() + torch.rand_like(x)) / 128 - 1
        return self.dimensions * math.log(128) - self.flow.log_prob(values, None)


class Energy(Baseline):
    """A convolutional energy, and the buffer of its samples.

    Arguments:
        shape: C, H, W.
        units: channels of the first layer.
        steps: of Langevin dynamics for each batch.
    """

    betas, rate, clip = (0.0, 0.999), 1e-4, 0.1
    fresh, kept = 0.05, 10_000  # share of chains that start anew, chains in the buffer

    def __init__(self, shape: tuple[int, ...], *, units: int = 16, steps: int = 20) -> None:
        super().__init__()
        channels, n = [shape[0], units, 2 * units, 4 * units, 4 * units], 4
        layers: list[nn.Module] = []
        for i in range(n):
            side = 5 if i == 0 else 3
            layers += [nn.Conv2d(channels[i], channels[i + 1], side, 2, side // 2), nn.SiLU()]
        places = math.prod(math.ceil(side / 2**n) for side in shape[1:])
        hidden = nn.Linear(channels[-1] * places, 2 * units)
        self.net = nn.Sequential(*layers, nn.Flatten(), hidden, nn.SiLU(), nn.Linear(2 * units, 1))
        self.steps, self.shape = steps, shape
        self.register_buffer("samples", 2 * torch.rand(self.kept, *shape) - 1)

    def figure(self, x: Tensor) -> Tensor:
        """Return the energies."""
        return self._energy(2 * x - 1)

    def _energy(self, x: Tensor) -> Tensor:
        energies: Tensor = self.net(x)[:, 0]
        return energies

    def loss(self, x: Tensor) -> Tensor:
        """Return the difference of energies of data and samples, and the square of both."""
        data = 2 * x - 1 + 0.005 * torch.randn_like(x)
        places = torch.randint(self.kept, (len(x),))
        new = torch.rand(len(x)) < self.fresh
        begun = torch.where(
            new[:, None, None, None], 2 * torch.rand_like(x) - 1, self.samples[places]
        )
        drawn = self._walk(begun)
        self.samples[places] = drawn
        inside, outside = self._energy(torch.cat([data, drawn])).chunk(2)
        bound = inside.square().mean() + outside.square().mean()
        return inside.mean() - outside.mean() + 0.1 * bound

    def _walk(self, x: Tensor) -> Tensor:
        self.requires_grad_(False)
        for _ in range(self.steps):
            x = (x + 0.005 * torch.randn_like(x)).clamp(-1, 1).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._energy(x).sum(), x)
            x = (x - 10 * slope.clamp(-0.03, 0.03)).clamp(-1, 1)
        self.requires_grad_(True)
        return x.detach()


BASELINES: dict[str, type[Baseline]] = {"glow": Glow, "ebm": Energy}


def train(model: Baseline, images: Tensor, seconds: float) -> int:
    """Train for a CPU time; returns the number of steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=model.rate, betas=model.betas)

    def loss_of(step: int) -> Tensor:
        return model.loss(_float(images[torch.randint(len(images), (BATCH,))]))

    return train_within(seconds, model, optimizer, loss_of, clip=model.clip)


def _float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


@torch.no_grad()
def figures(model: Baseline, images: Tensor) -> Tensor:
    """Return the figure of each image, with the same noise each time."""
    torch.manual_seed(1)
    return torch.cat([model.figure(_float(part)) for part in images.split(BATCH)])


def main() -> None:
    """Train or read a baseline, and print how well it tells the sets apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=BASELINES)
    parser.add_argument("train", help="DATA with its split")
    parser.add_argument("test", help="in-distribution DATA, with its split")
    parser.add_argument("--against", action="append", default=[])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--limit", type=int, default=1000, help="examples of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    whole = DataOptions(data_dir=options.data_dir)
    few = replace(whole, limit=options.limit)
    inside = load_data(options.test, few, default_split="test")
    model = BASELINES[options.model](inside.shape)
    row: dict[str, Any] = {"model": options.model, "train": options.train}
    if options.weights.exists():
        model.load_state_dict(load_file(options.weights))
    else:
        images = load_data(options.train, whole, default_split="train", like=inside.shape).values
        row |= {"steps": train(model.train(), images, options.seconds), "seconds": options.seconds}
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, options.weights)
    model.eval()
    found = dict(_named_figures(model, options, few, inside.shape))
    positives = figures(model, inside.values)
    row["mean_figure"] = float(positives.mean())
    if options.model == "glow":
        row["bpd"] = row["mean_figure"] / (math.prod(inside.shape) * math.log(2))
    outside = {name: {"figure": -values} for name, values in found.items()}
    told = separations({"figure": -positives.double().numpy()}, outside)["figure"]
    row["auroc"] = {name or "mean": [round(v, 3) for v in of.auroc] for name, of in told.items()}
    row["weights"] = sum(p.numel() for p in model.parameters())
    print(json.dumps(row), flush=True)


def _named_figures(
    model: Baseline, options: argparse.Namespace, few: DataOptions, shape: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    for name in options.against:
        images = load_data(name, few, default_split="test", like=shape).values
        yield name, figures(model, images).double().numpy()


if __name__ == "__main__":
    main()
