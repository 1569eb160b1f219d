"""What reading batches from HDF5 files costs beside a training step, for files of several layouts.

    python bench/streaming.py [--rows N]

Prints, of each layout, milliseconds for a batch from memory and from the file (an epoch's mean, of
processor time with that of the reading process, which other programs on the machine change less
than the time that passes), and both beside a step of the default MADE over 28 x 28 pixels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cases import BATCH, train_step_eager

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.distributed.ranks import SOLO
from arcsm_cli.errors import ArcsmError
from arcsm_cli.training.batches import batches_of

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks of 64": {"chunks": (64, 28, 28)},
    "gzip, chunks of 64": {"chunks": (64, 28, 28), "compression": "gzip"},
    "gzip, chunks of one": {"chunks": (1, 28, 28), "compression": "gzip"},
    "gzip, chunks across": {"chunks": (4096, 7, 7), "compression": "gzip"},
}


def processor_time(of: int) -> float:
    """Return the seconds that this process and the one that reads have computed."""
    ticks = Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[11:13]
    return time.process_time() + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def child() -> int:
    """Return the process that reads, the last one forked off."""
    mine = os.getpid()
    return int(Path(f"/proc/{mine}/task/{mine}/children").read_text().split()[-1])


def epoch(stream: bool, path: Path) -> float:
    """Return milliseconds a batch, of an epoch from memory or from the file."""
    data = load_training(str(path), DataOptions(), stream=stream).train
    batches, steps = batches_of(data, BATCH, 0, SOLO), len(data) // BATCH
    clock: Callable[[], float] = (lambda: processor_time(reader)) if stream else time.process_time
    reader = child() if stream else 0
    start = clock()
    for step in range(steps):
        batches.at(step, whole=False)
    return 1000 * (clock() - start) / steps


def main() -> None:
    """Measure all layouts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    rows = parser.parse_args().rows
    rng = np.random.default_rng(0)
    # A third of the pixels, as of handwritten digits: the rest would not be packed at all.
    images = rng.integers(0, 256, (rows, 28, 28), np.uint8) * (rng.random((rows, 28, 28)) < 0.2)
    start, passed = time.process_time(), time.perf_counter()
    step = 1000 * train_step_eager()
    step *= (time.process_time() - start) / (time.perf_counter() - passed)
    print(f"# a step: {step:.1f} ms; {rows} images")
    with tempfile.TemporaryDirectory() as folder:
        for name, packed in LAYOUTS.items():
            path = Path(folder, "x.h5")
            with h5py.File(path, "w") as file:
                file.create_dataset("images", data=images.astype(np.uint8), **packed)
            try:
                held, streamed = epoch(False, path), epoch(True, path)
            except ArcsmError as error:
                print(f"bench stream {name}: {error}")
                continue
            more = 100 * (streamed - held) / (step + held)
            print(f"bench stream {name}: {held:.2f} and {streamed:.2f} ms a batch, {more:+.1f} %")


if __name__ == "__main__":
    main()
