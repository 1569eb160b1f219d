"""An arena for faults, on processes that need no start-up."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.slow.faults.strike import Arena

if TYPE_CHECKING:
    from tests.cli.preloaded import Running


@pytest.fixture(scope="session")
def arena(start_in: Callable[..., "Running"], tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """Where works are done and disturbed."""
    return Arena(start_in, tmp_path_factory.mktemp("arena"))
