"""Two ranks of one thread each against one: the ratio of their steps a second, and their curves.

Every training runs twice, with few and with more steps: what the start costs cancels. The ranks are
processes of the real program that meet over Gloo; the batch is the same, shared out.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASES = {
    "ranks-made": ["digits", "--batch-size", "512"],
    "ranks-pixelcnn": [
        *("digits", "--context", "pixelcnn", "--filters", "24", "--resnet-blocks", "1"),
        *("--batch-size", "128"),
    ],
}
STEPS = {"ranks-made": (20, 220), "ranks-pixelcnn": (3, 43)}


def main() -> None:
    """Print a ratio for each case, and draw the curves of both if a folder is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which cases; all by default")
    parser.add_argument("--figure", type=Path, help="where the curves of the cases are drawn")
    parser.add_argument("--rounds", type=int, default=1, help="times each pair is run in turn")
    options = parser.parse_args()
    curves = {}
    for name in options.names or CASES:
        curves[name] = report(name, options.rounds)
    if options.figure is not None:
        _draw(curves, options.figure)


def report(name: str, rounds: int = 1) -> dict[int, dict[str, Any]]:
    """Print the ratio of a case; return the history of one rank and of two."""
    few, many = STEPS[name]
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for ranks, found in seconds.items():
                short = _train(CASES[name], few, ranks, Path(folder, f"{ranks}-few.safetensors"))
                long = _train(CASES[name], many, ranks, Path(folder, f"{ranks}.safetensors"))
                found.append((long - short) / (many - few))
        one, two = (sorted(found)[len(found) // 2] for found in seconds.values())
        histories = {ranks: _history(Path(folder, f"{ranks}.safetensors")) for ranks in seconds}
    apart = max(
        abs(a - b)
        for curve in ("loss", "valid_loss")
        for a, b in zip(histories[1][curve], histories[2][curve], strict=True)
    )
    print(f"bench {name} {one / two:.2f}", flush=True)
    print(
        f"#   one rank {one:.4g} s a step, two {two:.4g} s; their losses differ by {apart:.2g} at "
        f"most over {many} steps",
        flush=True,
    )
    return histories


def _train(arguments: list[str], steps: int, ranks: int, output: Path) -> float:
    """Return the seconds that a training takes, from start to end."""
    command = [sys.executable, "-m", "arcsm_cli", "train", *arguments]
    command += ["--steps", str(steps), "--force", "--device", "cpu", "-q", "-o", str(output)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"OMP_NUM_THREADS": "1"}
    if ranks > 1:
        shared |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    began = time.perf_counter()
    started = [
        subprocess.Popen(command, env=shared | ({"RANK": str(rank)} if ranks > 1 else {}))
        for rank in range(ranks)
    ]
    if any(process.wait() for process in started):
        raise SystemExit("a training failed")
    return time.perf_counter() - began


def _history(path: Path) -> dict[str, Any]:
    from arcsm_cli.io.checkpoint import load_checkpoint

    history: dict[str, Any] = load_checkpoint(path).training["history"]
    return history


def _draw(curves: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4.5 * len(curves), 3.2), squeeze=False)
    for axis, (name, histories) in zip(axes[0], curves.items(), strict=True):
        for ranks, width, style in ((1, 5.0, "-"), (2, 1.5, "--")):
            label = f"{ranks} rank{'s' * (ranks > 1)}"
            history = histories[ranks]
            axis.plot(history["step"], history["valid_loss"], style, lw=width, label=label)
        axis.set(xlabel="step", ylabel="held-out loss a dimension", title=name)
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
