"""The transformer's workloads: contexts of all pixels, by a pass for each and one by one."""

from __future__ import annotations

import time

import torch
from cases import SIDE, walked

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig, noise_levels

BATCH = 16


def model() -> ARCSM:
    """D = 784, the small transformer: 3 layers of 4 heads and 64 units; contexts of 16."""
    torch.manual_seed(0)
    net = ARCSM(
        ModelConfig((1, SIDE, SIDE), noise_levels(3.0, 0.1, 3), context="transformer", layers=3)
    )
    for weight in net.parameters():  # else its blocks would be the identity
        weight.data += 0.05 * torch.randn_like(weight)
    return net


def transformer_contexts_full() -> float:
    """Contexts by a full pass a pixel; a few passes stand for all."""
    net, x = model(), torch.rand(BATCH, SIDE * SIDE)
    with torch.no_grad():
        net.contexts(x)
        start = time.perf_counter()
        for d in range(0, SIDE * SIDE, SIDE * SIDE // 8):
            net.contexts(x)[:, d]
        return (time.perf_counter() - start) / 8 * SIDE * SIDE


def transformer_contexts_incremental() -> float:
    """The same with keys and values kept; fails if they differ by more than 1e-5."""
    return walked(model(), BATCH, tolerance=1e-5, warm=0, runs=3)


TRANSFORMER_CASES = {
    case.__name__: case for case in (transformer_contexts_full, transformer_contexts_incremental)
}
