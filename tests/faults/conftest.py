"""An arena for faults, on processes that need no start-up."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.faults.strike import Arena

if TYPE_CHECKING:
    from tests.cli.preloaded import Running


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment without what the user's own settings would change."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ARCSM", "_ARCSM", "COLUMNS"))}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def arena(start_in: Callable[..., "Running"], tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """Where works are done and disturbed."""
    return Arena(start_in, tmp_path_factory.mktemp("arena"))
