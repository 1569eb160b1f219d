"""Coverage-guided fuzzing of one reader, from small sound files on: atheris over libFuzzer.

    pip install -e .[fuzz]
    python tests/fuzz/run.py TARGET --seconds N [--corpus FOLDER] [--findings FOLDER]
    python tests/fuzz/run.py TARGET --replay FILE...

An input that ends in anything but a documented error, takes long or takes much memory is kept in
the folder of findings, once per place in the code, and fuzzing goes on: lines of stderr that begin
with FINDING name them. Those with CONTAINED count how often the process that runs HDF5 has died.
What the corpus has reached is kept between runs.
"""

import argparse
import hashlib
import importlib
import os
import random
import resource
import sys
import time
import traceback
import types
import warnings
from pathlib import Path
from typing import Any

_SLOW = 2.0  # seconds of processor time for one input
_LARGE = 256 << 20  # bytes of memory that one input adds to the largest so far
_HANGS = 60  # seconds, when libFuzzer ends the run
_STRUCTURED = 0.6  # of the changes are those of the target, the others libFuzzer's


class Findings:
    """Inputs that should not have done what they did, one for each place in the code."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder, self._target = folder, target
        self.seen: set[str] = set()

    def add(self, data: bytes, kind: str, place: str, details: str) -> None:
        """Keep an input, unless there is one of its kind from the same place."""
        key = f"{kind} {place}"
        if key in self.seen:
            return
        self.seen.add(key)
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"{self._target}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        (self._folder / f"{stem}.input").write_bytes(data)
        (self._folder / f"{stem}.txt").write_text(f"{key}\n\n{details}", errors="backslashreplace")
        print(f"FINDING {stem}: {key}", file=sys.stderr, flush=True)


def _place(error: BaseException) -> str:
    """The innermost line of this project that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "arcsm_cli" in f.filename or "commands" in f.filename]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _watched(run: Any, findings: Findings) -> Any:
    """The target, with what it does wrong kept and not raised."""
    from tests.fuzz.readers import ended

    memory, told = _memory(), 0

    def once(data: bytes) -> None:
        nonlocal memory, told
        start = time.process_time()
        try:
            run(data)
        except (Exception, SystemExit) as error:
            details = "".join(traceback.format_exception(error))
            findings.add(data, "error", _place(error), details)
        seconds, after = time.process_time() - start, _memory()
        if seconds > _SLOW:
            findings.add(data, "slow", f"{seconds:.0f} s", f"{seconds} s for {len(data)} bytes")
        if after > memory + _LARGE:
            grown = (after - memory) >> 20
            findings.add(data, "large", f"{grown} MiB", f"{grown} MiB for {len(data)} bytes")
        memory = max(memory, after)
        if sum(ended.values()) > told:
            told = sum(ended.values())
            print(f"CONTAINED {dict(ended)}", file=sys.stderr, flush=True)

    return once


def _memory() -> int:
    return max(
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def main() -> None:
    """Parse the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz/corpus"))
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz/findings"))
    parser.add_argument("--replay", nargs="+", type=Path, help="run these inputs only")
    arguments = parser.parse_args()

    from tests.fuzz import readers
    from tests.fuzz.targets import TARGETS

    if arguments.target not in TARGETS:
        parser.error(f"TARGET is one of {', '.join(TARGETS)}")
    target = TARGETS[arguments.target]
    import atheris

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=list(target.modules)):
        for module in target.modules:
            importlib.import_module(module)
    for path in arguments.replay or []:
        target.run(path.read_bytes())
    if arguments.replay:
        return

    corpus = arguments.corpus / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    findings = Findings(arguments.findings, arguments.target)
    first = arguments.corpus / f"{arguments.target}-seeds"
    work = arguments.corpus / f"{arguments.target}-work"
    for folder in (first, work):
        folder.mkdir(exist_ok=True)
    readers._folder = lambda process: work  # type: ignore[assignment]  # libFuzzer never tidies up
    for number, seed in enumerate(target.seeds()):
        (first / f"{number:03}").write_bytes(seed)
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-max_len={max(target.longest, *map(len, target.seeds()))}",
        f"-seed={arguments.seed}",
        f"-timeout={_HANGS}",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={arguments.findings}/",
    ]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < _STRUCTURED:
            return target.mutate(data, rng)[:longest]
        return bytes(atheris.Mutate(data, longest))

    arguments.findings.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [sys.argv[0], *options, str(corpus), str(first)],
        _watched(target.run, findings),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    # The folder of tests as the package of that name: an installed one may bear it, too.
    package = sys.modules["tests"] = types.ModuleType("tests")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    main()
