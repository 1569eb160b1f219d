"""Random numbers of a training run: functions of seed, purpose and index, whatever came before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """Streams of one seed that must not meet; the numbers decide what is drawn."""

    ORDER = 0
    NOISE = 1
    VALIDATION = 2
    INITIAL_WEIGHTS = 3
    DROPOUT = 4


def generator_for(
    seed: int, purpose: Purpose, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator that is a function of seed, purpose and index."""
    mixed = int(np.random.SeedSequence([seed, int(purpose), index]).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)
