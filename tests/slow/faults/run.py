"""Faults by the hundred: ``python tests/slow/faults/run.py --times N --seed S``.

Starts the real program in processes of its own, makes something go wrong in them, and looks at
what is left: every output must be absent or whole, and the same command must work afterwards and
end with the very content that an undisturbed run has. Prints a table; exits with 1 if anything
was lost.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

# A library installs a package `tests`, which a script would get in place of this folder.
package = types.ModuleType("tests")
package.__path__ = [str(Path(__file__).resolve().parents[2])]
sys.modules["tests"] = package

from tests.cli.processes import Running, server  # noqa: E402
from tests.slow.faults.strike import FAULTS, Arena, Loss, Tally  # noqa: E402
from tests.slow.faults.work import WORKS  # noqa: E402


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=10, help="faults of a kind in each work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--folder", type=Path, help="where to work, on the disk to be tested")
    options = parser.parse_args()

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ARCSM", "COLUMNS"))}
    lost = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "streams").mkdir()
        forked, environment = server(), kept | {"OMP_NUM_THREADS": "1"}
        streams = (folder / "streams" / str(i) for i in itertools.count())

        def start(where: Path, *arguments: object, **more: Any) -> Running:
            return Running(forked, environment, streams, where, arguments, **more)

        arena = Arena(start, folder)
        tallies: dict[str, Tally] = {}
        for fault in options.fault:
            for work in options.work:
                chance = random.Random(f"{options.seed} {fault} {work}")
                tally = Tally()
                began = time.monotonic()
                try:
                    FAULTS[fault](arena, work, options.times, chance, tally)
                except Loss as loss:
                    lost += 1
                    print(f"LOST: {fault} during {work}: {loss}", flush=True)
                if tally.faults:
                    row = f"{fault:<15} {work:<15} {tally} {time.monotonic() - began:6.1f} s"
                    print(row, flush=True)
                    tallies.setdefault(fault, Tally()).add(tally)
        forked.end()
    print()
    for fault, tally in tallies.items():
        print(f"{fault:<15} {'(all)':<15} {tally}")
    print(f"{sum(t.faults for t in tallies.values())} faults, lost: {lost or 'nothing'}")
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
