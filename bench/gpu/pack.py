"""Packs data small enough to travel to a GPU machine: ``python bench/gpu/pack.py --help``.

Writes into one folder, about 55 MB in all: mnist-train.npz and mnist-test.npz (bytes), cifar10.npz
(bytes, the first --cifar pictures of a folder or archive of them) and bsds-train.npy and
bsds-valid.npy (float16, from files as `bench/bsds.py` reads them). What is not given is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data


def images(spec: str, count: int, options: DataOptions) -> np.ndarray:
    """Return images as bytes (N, H, W) or (N, H, W, 3)."""
    data = load_data(spec, options, default_split="train")
    x = data.take(torch.arange(min(count, len(data))))
    return (x * 255).round().byte().permute(0, 2, 3, 1).squeeze(-1).numpy()


def main() -> None:
    """Pack what the arguments name and print the size of each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mnist", type=Path, help="folder that holds MNIST, as --data-dir")
    parser.add_argument("--cifar10", help="folder or archive of 32 x 32 pictures, with :SPLIT")
    parser.add_argument("--cifar", type=int, default=10_000, help="how many of them")
    parser.add_argument("--patches", type=Path, help="folder of bsds-train.npy, bsds-valid.npy")
    parser.add_argument("--patch-count", type=int, default=60_000, help="of them for training")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.mnist:
        where = DataOptions(data_dir=options.mnist)
        for part, count in (("train", 60_000), ("test", 2_000)):
            packed = images(f"mnist:{part}", count, where)
            np.savez_compressed(options.out / f"mnist-{part}.npz", images=packed)
    if options.cifar10:
        packed = images(options.cifar10, options.cifar, DataOptions())
        np.savez_compressed(options.out / "cifar10.npz", images=packed)
    if options.patches:
        for part, count in (("train", options.patch_count), ("valid", 2_000)):
            x = np.load(options.patches / f"bsds-{part}.npy", mmap_mode="r")[:count]
            np.save(options.out / f"bsds-{part}.npy", x.astype(np.float16))
    total = 0
    for file in sorted(options.out.iterdir()):
        total += file.stat().st_size
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    print(f"{total / 1e6:.1f} MB in all")


if __name__ == "__main__":
    main()
