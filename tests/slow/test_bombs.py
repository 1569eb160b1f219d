"""Small files that unpack to gigabytes, and long ones that say nothing of it."""

from pathlib import Path

import pytest

from tests.fuzz.test_bounds import BOMBS, is_refused_within_bounds


@pytest.mark.parametrize("name", BOMBS)
def test_memory_and_time_are_bounded(name: str, tmp_path: Path) -> None:
    is_refused_within_bounds(*BOMBS[name], tmp_path / ("file.gz" if "packed" in name else "file"))
