"""The fuzz targets on sound files and on some dozens of changed ones: a short, fixed fuzzing."""

import random

import pytest

from tests.fuzz import mutators
from tests.fuzz.readers import ended
from tests.fuzz.targets import COUNTS, TARGETS, fuzz, seeds_of


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_pass(name: str) -> None:
    found = seeds_of(name)
    assert len(found) > 1 or name == "comparison"
    assert max(map(len, found)) <= 4 * TARGETS[name].longest
    for seed in found:
        TARGETS[name].run(seed)
    assert not ended


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name: str) -> None:
    fuzz(name, range(COUNTS[name] // 4))


@pytest.mark.parametrize("name", ["checkpoint", "reference", "array", "image", "json"])
def test_changes_keep_files_well_formed(name: str) -> None:
    target, rng = TARGETS[name], random.Random(0)
    for seed in seeds_of(name):
        changed = [target.change(seed, rng) for _ in range(10)]
        assert len(set(changed)) > 5


@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_changed_and_read(name: str) -> None:
    target = TARGETS[name]
    for data in (b"", b"\0", b"PK\3\4", b"\x89PNG\r\n\x1a\n", bytes(range(256))):
        target.run(target.mutate(data, random.Random(len(data))))


def test_blind_changes_change() -> None:
    data = bytes(range(100))
    assert sum(mutators.blindly(data, random.Random(n)) == data for n in range(100)) < 10
