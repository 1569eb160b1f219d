"""The fuzz targets on thousands of changed files."""

import pytest

from tests.fuzz.targets import COUNTS, TARGETS, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name: str) -> None:
    fuzz(name, range(COUNTS[name] // 4, 10 * COUNTS[name]))
