"""Faults at fixed places and moments; ``run.py`` does hundreds more."""

import random
import signal
from pathlib import Path

import pytest

from arcsm_cli.errors import DamagedInputError
from tests.slow.faults.strike import FAULTS, Arena, Tally
from tests.slow.faults.work import WORKS, Loss, content, step

# How many of each. Every kind of work and of fault is there, where they can tell most of each
# other: trainings write many files, pipes are spooled, a picture comes after its samples.
SOME = [
    ("kill", "train", 2),
    ("kill", "vae-train", 2),
    ("kill", "train-pixelcnn", 1),
    ("kill", "sample", 2),
    ("kill", "merge-pipe", 2),
    ("kill-calls", "train", 3),
    ("kill-calls", "train-staged", 1),
    ("kill-calls", "sample-png", 2),
    ("kill-calls", "merge-pipe", 2),
    ("kill-calls", "plot", 2),
    ("kill-calls", "ood-score", 2),
    ("term", "train-mle", 1),
    ("term", "denoise", 1),
    ("usr1", "vae-train", 1),
    ("full-calls", "train", 3),
    ("full-calls", "sample-pipe", 3),
    ("full-calls", "ood-score", 2),
    ("broken-calls", "data", 2),
    ("read-only-calls", "train", 2),
    ("read-only-calls", "eval", 2),
    ("disk-full", "train", 2),
    ("disk-full", "sample-pipe", 2),
    ("disk-full", "merge", 1),
    ("read-only", "train", 1),
    ("read-only", "sample", 1),
]


@pytest.mark.parametrize(("fault", "name", "times"), SOME, ids=[f"{f}-{n}" for f, n, _ in SOME])
def test_nothing_is_lost(fault: str, name: str, times: int, arena: Arena) -> None:
    tally = Tally()
    try:
        FAULTS[fault](arena, name, times, random.Random(f"{fault} {name}"), tally)
    except PermissionError as error:
        pytest.skip(str(error))
    assert tally.faults == times
    assert tally.runs > 0


def test_every_work_and_every_fault_is_there() -> None:
    assert {name for _, name, _ in SOME} == set(WORKS)
    assert {fault for fault, _, _ in SOME} == set(FAULTS)


# The faults' own tests: what they look for, they would find.


def test_a_part_of_a_file_is_a_loss(arena: Arena) -> None:
    clean = arena.clean("data")
    with arena.place("data") as place:
        assert place.run().code == 0
        whole = (place.folder / "out.h5").read_bytes()
        (place.folder / "out.h5").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DamagedInputError):
            place.inspect(clean, Tally(), tidy=True)


def test_other_content_is_a_loss(arena: Arena) -> None:
    clean = arena.clean("sample")
    with arena.place("sample") as place:
        assert place.run("--seed", "1").code == 0
        with pytest.raises(Loss, match="differ"):
            place.inspect(clean, Tally(), tidy=True)


@pytest.mark.parametrize("name", ["left.h5", ".out.h5.5bce00000000.tmp"])
def test_a_file_that_is_left_is_a_loss(arena: Arena, name: str) -> None:
    clean = arena.clean("data")
    with arena.place("data") as place:
        (place.folder / name).touch()
        with pytest.raises(Loss, match="left"):
            place.inspect(clean, Tally(), tidy=True)


def test_a_training_is_killed_in_every_kind_of_call(arena: Arena) -> None:
    calls = set(arena.clean("train").calls)
    assert calls >= {"open", "write", "sync", "link", "rename", "remove", "change"}


def test_a_kill_at_a_write_leaves_a_part_of_it(arena: Arena) -> None:
    calls = arena.clean("data").calls
    with arena.place("data") as place:
        at = max(i for i, kind in enumerate(calls, 1) if kind == "write")
        before = ("inject", "kill", at, place.below, str(place.root / "calls"))
        assert place.run(before=before).code == -signal.SIGKILL
        (leftover,) = place.unknown()
        assert (place.folder / leftover).stat().st_size > 0
        assert not (place.folder / "out.h5").exists()


def test_contents_know_one_state_of_a_training_from_another(arena: Arena, tmp_path: Path) -> None:
    with arena.place("train") as place:
        assert place.run().code == 0
        resume = place.folder / "out.safetensors.resume"
        one, steps = content(resume), step(resume)
        assert place.run("--resume", "--steps", str(steps + 1)).code == 0
        assert (step(resume), content(resume) == one) == (steps + 1, False)
