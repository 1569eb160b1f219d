"""Going on with some of the rows of a batch: as if these had been alone from the beginning."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arcsm_cli.models.made import MADE
from arcsm_cli.models.pixelcnn import PixelCNN

ROWS = [3, 3, 0, 1, 3]
CASES = {
    "made": lambda: MADE(12, 3, (20, 20), residual=True),
    "made of one": lambda: MADE(1, 3, (5,)),
    "pixelcnn": lambda: PixelCNN((1, 8, 4), 3, 4, 1, 0.0, 1),
    "pixelcnn of colour": lambda: PixelCNN((3, 4, 4), 3, 4, 2, 0.0, 1),
    "pixelcnn of pixels": lambda: PixelCNN((3, 8, 4), 3, 4, 1, 0.0, 3),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_selected_rows_go_on_as_their_own_histories(case: str) -> None:
    torch.manual_seed(0)
    network: Any = CASES[case]().double().eval()
    for parameter in network.parameters():
        parameter.normal_()
    x = torch.randn(5, network.dimensions, dtype=torch.float64)
    state = network.incremental(torch.empty(5, 0))
    chosen = torch.arange(5)
    for d in range(network.dimensions):
        if d % 3 == 1 or d == network.dimensions - 1:  # before and after the context is read
            rows = torch.tensor(ROWS).roll(d)
            state.select(rows)
            x[:, :d] = x[rows, :d]
            chosen = chosen[rows]
        if d % 4 == 3:
            fresh = network.incremental(torch.empty(5, 0))
            for column in x[:, :d].T:
                fresh.append(column)
            assert torch.allclose(state.contexts(), fresh.contexts(), rtol=1e-10, atol=1e-10)
        state.append(x[:, d])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_rows_may_be_selected_at_the_beginning_and_after_the_end(case: str) -> None:
    network: Any = CASES[case]().double().eval()
    state = network.incremental(torch.empty(5, 0))
    state.select(torch.tensor(ROWS))
    for _ in range(network.dimensions):
        state.append(torch.zeros(5, dtype=torch.float64))
    state.select(torch.tensor(ROWS))
