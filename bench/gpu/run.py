"""A GPU's minutes, used well: every stage in turn, each with a time limit, results as they come.

``make gpu`` runs it on a CUDA device, with the data that ``make gpu-data`` packed; ``make
gpu-rehearsal`` runs the same stages at toy size on the CPU. Written to the output folder as each
stage ends: summary.md, results.json, log.txt, and pictures and checkpoints of what was trained.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NO_DEVICE = 69  # sysexits: a service that is not there
PACKAGES = ("typer", "rich", "h5py", "safetensors", "torchvision", "sklearn", "matplotlib")
PACKAGES += (
    "torchmetrics",
    "ot",
    "torch_fidelity",
    "tensorboard",
    "psutil",
    "pytest",
    "hypothesis",
)


class OverError(Exception):
    """A stage failed, or its time is over."""


@dataclass
class Session:
    """What all stages share.

    Attributes:
        end: when all is over, by `time.monotonic`.
        stage_end: when the present stage is.
        rows: figures found so far, each with its stage.
    """

    out: Path
    data: Path
    device: str
    toy: bool
    end: float
    stage_end: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def left(self) -> float:
        return max(0.0, min(self.end, self.stage_end) - time.monotonic())

    def call(
        self, command: Sequence[object], *, accept: Sequence[int] = (0,), stop_after: float = 0.0
    ) -> str:
        """Run a command within the stage's time; return its standard output.

        Arguments:
            stop_after: send SIGUSR1 after so many seconds, which ends a training with a checkpoint.

        Raises:
            OverError: its exit status is not one to accept, or time is over.
        """
        words = [sys.executable, *map(str, command)]
        with open(self.out / "log.txt", "a") as log:
            print(f"\n$ {' '.join(words)}", file=log, flush=True)
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment, cwd=ROOT
            )
            try:
                if stop_after:
                    try:
                        output, _ = process.communicate(timeout=min(stop_after, self.left()))
                    except subprocess.TimeoutExpired:
                        process.send_signal(signal.SIGUSR1)
                output, _ = process.communicate(timeout=self.left() + 1)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                print(output, file=log)
                raise OverError("its time was over") from None
            print(output, file=log, flush=True)
        if process.returncode not in accept:
            raise OverError(f"exit status {process.returncode}, see log.txt")
        return output

    def arcsm(self, *arguments: object, **how: Any) -> str:
        return self.call(["-m", "arcsm_cli", *arguments], **how)

    def note(self, **row: Any) -> None:
        self.rows.append(row)


def tests(session: Session) -> None:
    """All tests that are for a GPU."""
    text = session.call(["-m", "pytest", "-q", "-m", "gpu", "tests"], accept=(0, 1))
    session.note(tests=text.strip().splitlines()[-1])
    for line in text.splitlines():
        if line.startswith("FAILED"):
            session.note(tests=line)


def steps(session: Session) -> None:
    """Training steps in each precision."""
    _measure(session, "steps", _images(session))


def sampling(session: Session) -> None:
    """Whole samples with CUDA graphs and without."""
    _measure(session, "sampling", _images(session))


def quantile(session: Session) -> None:
    """Distill what the stage before trained; whole samples by its flow and by one evaluation."""
    model, fast = session.out / "mnist-pixelcnn.safetensors", session.out / "distilled.safetensors"
    size = ("--steps", 4, "--examples", 4) if session.toy else ()
    found = session.arcsm(
        "distill", model, *size, "--device", session.device, "--json", "--force", "-o", fast
    )
    session.note(distilled=json.loads(found).get("metrics"))
    _measure(session, "samplers", str(fast))
    for file in (fast, fast.with_name(fast.name + ".resume")):
        file.unlink(missing_ok=True)


def _measure(session: Session, what: str, argument: str) -> None:
    command = ["bench/gpu/measure.py", what, session.device, argument]
    text = session.call([*command, *(["--toy"] if session.toy else [])])
    for line in text.splitlines():
        session.note(**json.loads(line))


def _images(session: Session) -> str:
    return "digits" if session.toy else str(session.data / "mnist-train.npz")


Stage = tuple[str, float, Callable[[Session], None]]
"""A stage's name, its share of the minutes, and what it does."""


def training(name: str, share: float, *options: object, toy: Sequence[object]) -> Stage:
    """Return a stage that trains on images for most of its time, then measures and draws."""

    def stage(session: Session) -> None:
        colour = name.startswith("cifar")
        data = str(session.data / "cifar10.npz") if colour else _images(session)
        data = "digits" if session.toy else data
        model, common = session.out / f"{name}.safetensors", ["--device", session.device]
        chosen = toy if session.toy else options
        # A training learns when to stop; schedules that need to know the last step do not.
        steps = 6 if session.toy else 10**6
        how = {"accept": (0, 75), "stop_after": 0.0 if session.toy else 0.62 * session.left()}
        start = time.monotonic()
        session.arcsm(
            *("train", data, *chosen, "--schedule", "constant", "--steps", steps, *common),
            *("--checkpoint-every", 10**6, "--force", "-o", model),
            **how,
        )
        seconds = time.monotonic() - start
        model.with_name(model.name + ".resume").unlink(missing_ok=True)
        info = json.loads(session.arcsm("info", model, "--json"))
        session.note(training=name, seconds=seconds, steps=info.get("training", {}).get("step"))
        held_out = data if session.toy or colour else str(session.data / "mnist-test.npz") + ":all"
        how_many = ("--limit", 4, "--resize", 4) if session.toy else ("--limit", 2000)
        found = session.arcsm(
            *("eval", model, held_out, "--metric", "bpd", *how_many, "--json", *common)
        )
        session.note(training=name, bits_per_dim=json.loads(found)["metrics"]["bpd"])
        samples = session.out / f"{name}.h5"
        count = 4 if session.toy else 100
        session.arcsm(
            *("sample", model, "-n", count, "--denoise", "--force", "-o", samples, *common),
            *("--png", session.out / f"{name}.png"),
        )
        samples.unlink()

    return name, share, stage


def patches(session: Session) -> None:
    """Density of image patches: the long run, for what time is left."""
    model, common = session.out / "patches.safetensors", ["--device", session.device]
    data = "gaussian:6" if session.toy else session.data / "bsds-train.npy"
    held_out = "gaussian:6" if session.toy else f"{session.data / 'bsds-valid.npy'}:all"
    steps = 6 if session.toy else 10**6
    session.arcsm(
        *("train", data, "--standardize", "--sigma-min", 0.01, "--steps", steps, *common),
        *(
            "--hidden",
            "16,16" if session.toy else "1024,1024",
            "--batch-size",
            16 if session.toy else 2048,
        ),
        *("--schedule", "constant", "--checkpoint-every", 10**6, "--force", "-o", model),
        accept=(0, 75),
        stop_after=0.0 if session.toy else session.left() - 40,
    )
    model.with_name(model.name + ".resume").unlink(missing_ok=True)
    limit = 16 if session.toy else 2000
    found = session.arcsm(
        "eval", model, held_out, "--metric", "nll", "--limit", limit, "--json", *common
    )
    session.note(training="patches", nll=json.loads(found)["metrics"]["nll"])


BF16 = ("--precision", "bf16")
TOY = ("--limit", 32, "--batch-size", 8, "--resize", 4)
TRANSFORMER, PIXELCNN = ("--context", "transformer"), ("--context", "pixelcnn")
SMALL_PIXELCNN = (*PIXELCNN, "--size", "small", *BF16)
TOY_PIXELCNN = (*PIXELCNN, "--filters", 4, "--resnet-blocks", 1, *TOY)
TOY_TRANSFORMER = (*TRANSFORMER, "--layers", 1, "--heads", 2, "--width", 8, *TOY)
STAGES: list[Stage] = [  # most telling first
    ("tests", 0.13, tests),
    ("steps", 0.12, steps),
    ("sampling", 0.09, sampling),
    training("mnist-transformer", 0.19, *TRANSFORMER, *BF16, toy=TOY_TRANSFORMER),
    training("mnist-pixelcnn", 0.19, *SMALL_PIXELCNN, "--draws", 4, toy=TOY_PIXELCNN),
    ("quantile", 0.09, quantile),
    training("cifar10-pixelcnn", 0.15, *SMALL_PIXELCNN, toy=TOY_PIXELCNN),
    ("patches", 1.0, patches),
]


def unpacked(data: Path) -> Path:
    """Return the folder that holds the data, which may come as an archive of its files."""
    if data.is_dir() or not data.exists():
        return data
    folder = Path(tempfile.mkdtemp(prefix="gpu-data-"))
    shutil.unpack_archive(data, folder, **({} if data.suffix == ".zip" else {"filter": "data"}))
    inner = [p for p in folder.rglob("*") if p.suffix in (".npy", ".npz")]
    return inner[0].parent if inner else folder


def about(session: Session) -> Iterator[str]:
    """Describe machine, versions and what is missing, as lines."""
    import torch

    name = platform.processor() or platform.machine()
    if session.device != "cpu":
        name = torch.cuda.get_device_name()
        driver = shutil.which("nvidia-smi") and subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
        yield f"Driver {driver.stdout.strip() if driver else 'unknown'}, CUDA {torch.version.cuda}."
    yield f"Device: {name}; PyTorch {torch.__version__}, Python {platform.python_version()}."
    missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
    yield f"Missing packages: {', '.join(missing) or 'none'}."


def write(session: Session, states: dict[str, str], notes: Sequence[str]) -> None:
    """Write the summary and the figures found so far."""
    (session.out / "results.json").write_text(json.dumps(session.rows, indent=1) + "\n")
    lines = ["# GPU run" if not session.toy else "# Rehearsal on the CPU", "", *notes, ""]
    lines += ["| stage | how it ended |", "|---|---|"]
    lines += [f"| {name} | {state} |" for name, state in states.items()]
    lines += ["", "| figures |", "|---|"]
    for row in session.rows:
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        lines.append("| " + ", ".join(shown).replace("|", "/") + " |")
    (session.out / "summary.md").write_text("\n".join(lines) + "\n")


def main() -> int:
    """Run the stages that are asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-results")))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GPU_DATA", "gpu-data")))
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("GPU_MINUTES", 12)))
    parser.add_argument("--rehearsal", action="store_true", help="toy sizes, on the CPU")
    parser.add_argument("stages", nargs="*", help="which stages; all by default")
    options = parser.parse_args()
    if unknown := set(options.stages) - {name for name, _, _ in STAGES}:
        parser.error(f"no stage is called {', '.join(sorted(unknown))}")
    start = time.monotonic()
    import torch

    device = "cpu" if options.rehearsal else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print(
            "make gpu: PyTorch finds no CUDA device here; try make gpu-rehearsal", file=sys.stderr
        )
        return NO_DEVICE
    options.out.mkdir(parents=True, exist_ok=True)
    out, end = options.out.resolve(), start + 60 * options.minutes
    session = Session(out, unpacked(options.data.resolve()), device, options.rehearsal, end)
    session.environment["PYTHONSAFEPATH"] = "1"  # the installed package, not the source folder
    session.environment["PYTHONPATH"] = os.pathsep.join(
        [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
    ).strip(os.pathsep)
    session.environment["ARCSM_TEST_DEVICE"] = device
    (out / "log.txt").write_text("")
    notes, states = list(about(session)), dict.fromkeys((s[0] for s in STAGES), "not begun")
    for name, share, stage in STAGES:
        if options.stages and name not in options.stages:
            states[name] = "not asked for"
            continue
        began = time.monotonic()
        session.stage_end = began + share * 60 * options.minutes
        try:
            if session.left() < 1:
                raise OverError("no time was left")
            stage(session)
            states[name] = "done"
        except OverError as error:
            states[name] = f"failed: {error}"
        except Exception as error:
            states[name] = f"failed: {error!r}"
        states[name] += f" ({time.monotonic() - began:.0f} s)"
        print(f"{name}: {states[name]}", flush=True)
        write(session, states, notes)
    print((out / "summary.md").read_text())
    return 1 if any(state.startswith("failed") for state in states.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
