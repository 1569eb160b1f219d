"""`arcsm train` with as many steps as fit into a CPU time, on one thread.

    python bench/timed.py --seconds 300 train mnist --objective csm -o csm.safetensors

So that a model of the program gets the time that `ood_baselines.py` and `dncnn.py` give theirs. The
number of steps is found by two short runs, whose time counts; nothing is done where the output is
there already. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from equal_time import within

from arcsm_cli.app import main as arcsm


def main() -> None:
    """Train, and print how many steps it took and what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="CPU seconds")
    parser.add_argument("--probe", type=int, default=8, help="steps of the first short run")
    options, command = parser.parse_known_args()
    if command[:1] != ["train"] or command[-2] != "-o":
        parser.error("expected the command: train DATA ... -o FILE")
    output = Path(command[-1])
    if output.exists():
        print(f"{output}: there already")
        return
    torch.set_num_threads(1)

    def run(steps: int) -> int:
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            file = os.path.join(folder, output.name)
            code = arcsm([*command[:-1], file, "--steps", str(steps), "--quiet"])
            if code:
                raise SystemExit(code)
            os.replace(file, output)
        return steps

    steps, seconds = within(options.seconds, run, options.probe)
    print(json.dumps({"model": str(output), "steps": steps, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
