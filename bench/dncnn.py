"""The upper anchor of `arcsm denoise`: DnCNN, trained for one corruption on the same images.

    arcsm denoise MODEL mnist --corrupt gaussian:0.6 --limit 200 -o restored.h5
    python bench/dncnn.py restored.h5 mnist:train --corrupt gaussian:0.6 --data-dir DATA \
      --seconds 240 --weights dncnn.safetensors

DnCNN (Zhang et al. 2017) is a convolutional network that predicts what was added, with batch
normalisation, trained on pairs of corrupted and clean images by squared error; here with fewer
layers and channels than the published 17 of 64, so that a core can train it. It is supervised and
knows the corruption and its strength, which a density model does not: a network for each
corruption. Trained on one thread for `--seconds` of CPU time, the learning rate falling to zero;
where the file of weights is there already, they are read from it. Prints PSNR and SSIM of the
file's corrupted images, of its restorations, and of the network's, as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from cpu_time import train_within
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.denoising.corruption import Corruption, Gaussian, SaltPepper
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.registry import METRICS

BATCH, RATE = 64, 1e-3


class DnCNN(nn.Module):
    """Corrupted images (B, C, H, W) less what the network takes for added.

    Arguments:
        channels: C.
        layers, units: convolutions, and channels of those between.
    """

    def __init__(self, channels: int, *, layers: int, units: int) -> None:
        super().__init__()
        found: list[nn.Module] = [nn.Conv2d(channels, units, 3, padding=1), nn.ReLU()]
        for _ in range(layers - 2):
            inner = nn.Conv2d(units, units, 3, padding=1, bias=False)
            found += [inner, nn.BatchNorm2d(units), nn.ReLU()]
        self.net = nn.Sequential(*found, nn.Conv2d(units, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the restored images."""
        restored: Tensor = x - self.net(x)
        return restored


def corruption_of(text: str) -> Corruption:
    """Read ``gaussian:S``, S in [-1, 1], or ``salt-pepper:P``."""
    kind, _, value = text.partition(":")
    if kind not in ("gaussian", "salt-pepper"):
        raise SystemExit(f"--corrupt {text}: expected gaussian:S or salt-pepper:P")
    return Gaussian(float(value), 0.5) if kind == "gaussian" else SaltPepper(float(value))


def train(model: DnCNN, data: Dataset, corrupt: Corruption, seconds: float) -> int:
    """Train for a CPU time; returns the number of steps."""

    def loss_of(step: int) -> Tensor:
        clean = data.take(torch.randint(len(data), (BATCH,)))
        noisy = corrupt(clean, SampleNoise(1, range(step * BATCH, (step + 1) * BATCH)))
        return (model(noisy) - clean).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    return train_within(seconds, model, optimizer, loss_of)


def main() -> None:
    """Train or read the network, and print how near the restored images are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="what arcsm denoise wrote")
    parser.add_argument("train", help="DATA with its split")
    parser.add_argument("--corrupt", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    with SampleFile(options.file) as samples:
        clean, corrupted, restored = (
            torch.from_numpy(samples.read(0, len(samples), name)).float()
            for name in ("clean", "corrupted", "samples")
        )
    model = DnCNN(clean.shape[1], layers=options.layers, units=options.units)
    row: dict[str, object] = {"corrupt": options.corrupt, "images": len(clean)}
    if options.weights.exists():
        model.load_state_dict(load_file(options.weights))
    else:
        shape = tuple(clean.shape[1:])
        known = DataOptions(data_dir=options.data_dir)
        data = load_data(options.train, known, default_split="train", like=shape)
        corrupt = corruption_of(options.corrupt)
        row |= {"steps": train(model, data, corrupt, options.seconds), "seconds": options.seconds}
        save_file(model.state_dict(), options.weights)
    model.eval()
    with torch.no_grad():
        ours = torch.cat([model(part) for part in corrupted.split(BATCH)])
    for name, images in (("corrupted", corrupted), ("arcsm", restored), ("dncnn", ours)):
        for metric in ("psnr", "ssim"):
            values = METRICS[metric](images.clamp(0, 1), clean)
            error = float(values.std()) / math.sqrt(len(values))
            row[f"{name}_{metric}"] = [round(float(values.mean()), 3), round(error, 3)]
    print(json.dumps(row | {"weights": sum(p.numel() for p in model.parameters())}), flush=True)


if __name__ == "__main__":
    main()
