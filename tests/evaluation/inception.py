"""Weights of Inception v3 laid out as the published ones, with random numbers in them.

A plugin (``pytest_plugins = ["tests.evaluation.inception"]``). The files have 91 MiB each, and are
written once a session.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor


@pytest.fixture(scope="session")
def inception_state() -> dict[str, Tensor]:
    """Random weights by name, of a size at which the signal neither dies nor explodes."""
    import torch
    from torchmetrics.image.fid import NoTrainInceptionV3

    class Blank(NoTrainInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            """Keeps the shapes alone."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    state = Blank("blank", ["2048"], nothing).state_dict()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            scale = math.sqrt(2 / math.prod(tensor.shape[1:]))
            tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
    return dict(state)


@pytest.fixture(scope="session")
def inception_file(
    inception_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The weights as a safetensors file."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file(inception_state, path)
    return path
