"""Tests that are for a GPU: skipped where there is none, so that ``-m gpu`` runs them all on one.

``ARCSM_TEST_DEVICE=cpu`` runs those that need no CUDA of their own on the CPU, as a rehearsal.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def device() -> str:
    """The device to test on; what needs more than its presence asks for ``cuda``."""
    import torch

    name = os.environ.get("ARCSM_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return name


@pytest.fixture
def cuda(device: str) -> str:
    """The device, of tests of CUDA itself."""
    if device != "cuda":
        pytest.skip("needs a GPU")
    return device
