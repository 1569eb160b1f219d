"""How faults are made to happen, and what is looked at after each of them."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.cli.processes import Done, Running
from tests.disk import disk
from tests.slow.faults import inject
from tests.slow.faults.work import STDOUT, WORKS, Loss, Work, content, demand, prepare, step

__all__ = ["FAULTS", "Arena", "Loss", "Tally"]

Start = Callable[..., Running]

_SIGNALLED = (0, 75, 130)  # done before it came; saved; nothing to save


@dataclass
class Tally:
    """What was seen.

    Attributes:
        faults: how many struck.
        absent: after how many there was no output.
        whole: after how many there was one, and it was whole.
        leftovers: temporary files that killed processes left; the next run removed them all.
        runs: complete runs that were compared with an undisturbed one, and equal.
    """

    faults: int = 0
    absent: int = 0
    whole: int = 0
    leftovers: int = 0
    runs: int = 0

    def add(self, other: "Tally") -> None:
        """Add the counts of another."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def __str__(self) -> str:
        return (
            f"{self.faults:4} faults: {self.absent:4} absent, {self.whole:4} whole, "
            f"{self.leftovers:3} temporary files, {self.runs:4} complete runs equal;"
        )


@dataclass
class Clean:
    """An undisturbed run: what its outputs hold, how long it took and its system calls."""

    contents: dict[str, str]
    seconds: float
    calls: list[str]


class Arena:
    """A folder in which works are done and disturbed.

    Arguments:
        start: starts ``arcsm`` in a folder, as `tests.cli.preloaded` does.
        folder: where to work.
    """

    def __init__(self, start: Start, folder: Path) -> None:
        self._start, self.folder = start, folder
        self._numbers = itertools.count()
        self._clean: dict[str, Clean] = {}
        self.inputs = folder / "inputs"
        self.inputs.mkdir()
        prepare(lambda *given: start(*given).wait(), self.inputs)

    @contextmanager
    def place(self, name: str, disk: Path | None = None) -> Iterator["Place"]:
        """A fresh folder for a work; on another disk if one is given."""
        root = (disk or self.folder) / f"place-{next(self._numbers)}"
        place = Place(self._start, WORKS[name], root, self.inputs)
        yield place
        shutil.rmtree(root)

    def clean(self, name: str) -> Clean:
        """What an undisturbed run of a work does, found once."""
        if name not in self._clean:
            with self.place(name) as place:
                report = place.root / "calls"
                done = place.run(before=("inject", inject.COUNT, 1, place.below, str(report)))
                demand(done.code == 0, f"undisturbed: {done.err}")
                seconds = place.seconds
                demand(place.unknown() == [], f"undisturbed, left: {place.unknown()}")
                calls = report.read_text().splitlines()
                self._clean[name] = Clean(place.contents(), seconds, calls)
        return self._clean[name]


class Place:
    """A folder in which one work is done, again and again until it is complete."""

    def __init__(self, start: Start, work: Work, root: Path, inputs: Path) -> None:
        self.work, self.root = work, root
        self.folder, self.spool = root / "work", root / "spool"
        self.below = [str(self.folder), str(self.spool)]
        self.seconds = 0.0
        self._begin = start
        for folder in (root, self.folder, self.spool):
            folder.mkdir()
        for name in work.inputs:
            shutil.copy(inputs / name, self.folder)

    def start(self, *more: str, before: tuple[object, ...] = ()) -> Running:
        """Start the work."""
        streams: dict[str, Any] = {"stdout": self.folder / STDOUT} if self._streamed else {}
        if self.work.stdin is not None:
            streams["stdin"] = self.folder / self.work.stdin
        # PyTorch makes itself a folder in the place for temporary files.
        cache = str(self.root.parent / "inductor")
        env = {"TMPDIR": str(self.spool), "TORCHINDUCTOR_CACHE_DIR": cache}
        arguments = (*self.work.arguments, *more)
        return self._begin(self.folder, *arguments, before=before, env=env, **streams)

    def run(self, *more: str, before: tuple[object, ...] = ()) -> Done:
        """Do the work to its end."""
        began = time.monotonic()
        done = self.start(*more, before=before).wait()
        self.seconds = time.monotonic() - began
        return done

    @property
    def _streamed(self) -> bool:
        return STDOUT in self.work.outputs

    def contents(self) -> dict[str, str]:
        """What each output holds, as far as it is there."""
        paths = [self.folder / name for name in self.work.outputs]
        return {path.name: content(path) for path in paths if path.exists()}

    def unknown(self) -> list[str]:
        """What lies in the folders without being an input or an output."""
        names = {path.name for path in self.folder.iterdir()} - self.work.known
        return sorted({*names, *(path.name for path in self.spool.iterdir())})

    def inspect(self, clean: Clean, tally: Tally, *, tidy: bool) -> None:
        """Look at what a fault left.

        Arguments:
            tidy: the program ended by itself, and had to leave nothing else.
        """
        tally.faults += 1
        for name in self.work.known:
            path = self.folder / name
            if name in self.work.outputs or not path.exists() or name == STDOUT:
                continue
            content(path)  # inputs, and what lies beside them, are whole
        found = {} if self._streamed else self.contents()
        if self.work.resumes:
            self._inspect_training(clean)
        else:
            wrong = [name for name, held in found.items() if held != clean.contents[name]]
            demand(not wrong, f"{wrong} differ from those of an undisturbed run")
        tally.whole += bool(found)
        tally.absent += not found
        strange = [n for n in self.unknown() if not (n.startswith(".") and n.endswith(".tmp"))]
        demand(not strange, f"left: {strange}")
        demand(not (tidy and self.unknown()), f"left: {self.unknown()}")
        tally.leftovers += len(self.unknown())

    def _inspect_training(self, clean: Clean) -> None:
        final, beside = (self.folder / f"{self.work.outputs[0]}{end}" for end in ("", ".resume"))
        if final.exists():
            demand(beside.exists(), "a checkpoint without the resume file before it")
            # The resume file is written first. Kills in between, again and again, leave the
            # checkpoint behind.
            demand(step(beside) >= step(final), "the checkpoint is ahead of its resume file")

    def conclude(self, done: Done, clean: Clean, tally: Tally) -> None:
        """Whether or not the last run came to its end: in the end all must be right."""
        if done.code == 0 and not self.unknown():
            self.compare(clean, tally)
        else:
            self.finish(clean, tally)

    def finish(self, clean: Clean, tally: Tally) -> None:
        """Do the same again without a fault; all must be as if there had been none."""
        there = not self.work.resumes and not self._streamed and len(self.contents())
        if there:
            before = self.contents()
            done = self.run()
            demand(done.code == 73, f"replaced an output unasked: {done.code} {done.err}")
            demand(self.contents() == before, "an output that was refused has changed")
        more = ("--resume",) if self.work.resumes else ("--force",) if there else ()
        done = self.run(*more)
        demand(done.code == 0, f"does not work afterwards: {done.code} {done.err}")
        self.compare(clean, tally)

    def compare(self, clean: Clean, tally: Tally) -> None:
        """After a complete run: the outputs of an undisturbed one, and nothing else."""
        demand(self.contents() == clean.contents, "not what an undisturbed run gives")
        demand(not self.unknown(), f"left for good: {self.unknown()}")
        tally.runs += 1


def signals(signum: signal.Signals) -> Callable[..., None]:
    """Signals at random moments; trainings are resumed and struck again until complete."""

    def strike(arena: Arena, name: str, times: int, chance: random.Random, tally: Tally) -> None:
        work = WORKS[name]
        if signum == signal.SIGUSR1 and not work.resumes:
            return
        clean = arena.clean(name)
        attempts = 0
        while tally.faults < times and attempts < 20 * times:
            with arena.place(name) as place:
                while tally.faults < times and attempts < 20 * times:
                    attempts += 1
                    running = place.start(*(("--resume",) if work.resumes else ()))
                    time.sleep(chance.uniform(0, clean.seconds))
                    os.kill(running.pid, signum)
                    done = running.wait()
                    if done.code == 0:
                        break
                    _check_ending(done, signum, place)
                    place.inspect(clean, tally, tidy=signum != signal.SIGKILL)
                    if not work.resumes:
                        break
                place.conclude(done, clean, tally)

    return strike


def _check_ending(done: Done, signum: signal.Signals, place: Place) -> None:
    if signum == signal.SIGKILL:
        demand(done.code == -signum, f"ended with {done.code}: {done.err}")
        return
    # Before the program has set up its handlers, a signal does what it does to every program.
    early = done.code == -signum
    demand(done.code in _SIGNALLED or early, f"ended with {done.code}: {done.err}")
    demand(done.err.count("\n") == (0 if early else 1), f"not one line: {done.err}")


def calls(what: str) -> Callable[..., None]:
    """Faults at each of the system calls that write, one after another."""

    def strike(arena: Arena, name: str, times: int, chance: random.Random, tally: Tally) -> None:
        clean = arena.clean(name)
        numbers = list(range(1, len(clean.calls) + 1))
        if times < len(numbers):
            numbers = sorted(chance.sample(numbers, times))
        for at in numbers:
            with arena.place(name) as place:
                done = place.run(
                    before=("inject", what, at, place.below, str(place.root / "calls"))
                )
                place_name = f"call {at} of {len(clean.calls)} ({clean.calls[at - 1]})"
                try:
                    if what == inject.KILL:
                        _check_ending(done, signal.SIGKILL, place)
                    else:
                        _check_refusal(done)
                    # What may not be removed stays, until the next run.
                    tidy = what not in (inject.KILL, "read-only")
                    place.inspect(clean, tally, tidy=tidy)
                    place.conclude(done, clean, tally)
                except Exception as error:
                    raise Loss(f"{place_name}: {error!r}") from error

    return strike


def _check_refusal(done: Done) -> None:
    if done.code != 0:
        demand(done.code == 73, f"ended with {done.code}: {done.err}")
        demand(done.err.count("\n") == 1 and "Traceback" not in done.err, f"said: {done.err}")


def remount(folder: Path, how: str) -> bool:
    """Change a mounted disk; False if a file is being written to."""
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def full(arena: Arena, name: str, times: int, chance: random.Random, tally: Tally) -> None:
    """Disks of a random size, too small as a rule; then there is room."""
    clean = arena.clean(name)
    page = 4096
    with disk(arena.folder / "disk", 1 << 26) as mounted, arena.place(name, mounted) as place:
        done = place.run()
        need = _used(mounted) // page
    for _ in range(times):
        with disk(arena.folder / "disk", 1 << 26) as mounted, arena.place(name, mounted) as place:
            least = _used(mounted) // page
            remount(mounted, f"size={chance.randint(least, need + 4) * page}")
            done = place.run()
            _check_refusal(done)
            place.inspect(clean, tally, tidy=True)
            remount(mounted, f"size={1 << 26}")
            place.conclude(done, clean, tally)


def _used(mounted: Path) -> int:
    usage = os.statvfs(mounted)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def read_only(arena: Arena, name: str, times: int, chance: random.Random, tally: Tally) -> None:
    """Disks that become read-only at a random moment, and writable again."""
    clean = arena.clean(name)
    for _ in range(times):
        with disk(arena.folder / "disk", 1 << 26) as mounted, arena.place(name, mounted) as place:
            running = place.start()
            time.sleep(chance.uniform(0, clean.seconds))
            # Not while a file is open for writing, as the system has it; the end comes too.
            while not remount(mounted, "ro"):
                time.sleep(chance.uniform(0, 0.002))
            done = running.wait()
            _check_refusal(done)
            remount(mounted, "rw")
            place.inspect(clean, tally, tidy=False)
            place.conclude(done, clean, tally)


FAULTS: dict[str, Callable[[Arena, str, int, random.Random, Tally], None]] = {
    "kill": signals(signal.SIGKILL),
    "kill-calls": calls(inject.KILL),
    "term": signals(signal.SIGTERM),
    "usr1": signals(signal.SIGUSR1),
    "full-calls": calls("full"),
    "broken-calls": calls("broken"),
    "read-only-calls": calls("read-only"),
    "disk-full": full,
    "read-only": read_only,
}
