"""The fuzz targets on sound files and on some hundreds of changed ones: a short, fixed fuzzing."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import mutators
from tests.fuzz.targets import TARGETS, ended, seeds_of

# Changed inputs of each: as many as take about two seconds.
COUNTS = {"checkpoint": 400, "info": 200, "samples": 400, "comparison": 400, "downloads": 80}
OTHERS = 800


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_pass(name: str) -> None:
    for seed in seeds_of(name):
        TARGETS[name].run(seed)
    assert not ended


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_worth_starting_from(name: str) -> None:
    found = seeds_of(name)
    assert len(found) > 1 or name == "comparison"
    assert max(map(len, found)) <= 4 * TARGETS[name].longest


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=COUNTS.get(name, OTHERS),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(seeds_of(name)), st.lists(st.integers(0, 1 << 32), max_size=4))
    def read(data: bytes, changes: list[int]) -> None:
        for change in changes:
            data = target.mutate(data, random.Random(change))
        target.run(data)

    read()


@pytest.mark.parametrize("name", ["checkpoint", "reference", "array", "image", "json"])
def test_changes_keep_files_well_formed(name: str) -> None:
    target, rng = TARGETS[name], random.Random(0)
    for seed in seeds_of(name):
        changed = [target.change(seed, rng) for _ in range(10)]
        assert len(set(changed)) > 5


@pytest.mark.parametrize("data", [b"", b"\0", b"PK\3\4", b"\x89PNG\r\n\x1a\n", bytes(range(256))])
@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_changed_and_read(name: str, data: bytes) -> None:
    target = TARGETS[name]
    for number in range(3):
        target.run(target.mutate(data, random.Random(number)))


def test_blind_changes_change() -> None:
    data = bytes(range(100))
    assert sum(mutators.blindly(data, random.Random(n)) == data for n in range(100)) < 10
