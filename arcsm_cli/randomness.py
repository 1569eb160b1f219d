"""Every random number of the program: a function of a seed, a purpose and an index.

Training draws from `generator_for`, batch by batch; samples, corruptions and evaluations from
`SampleNoise`, whose streams belong to single examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


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


class SampleNoise:
    """Standard normals for a batch of samples, each from its own counter-based stream.

    Sample i's stream is Philox (Salmon et al. 2011) keyed by (seed, i): it does not matter in which
    batch, shard or process the sample is drawn.

    Arguments:
        seed: 0 <= seed < 2^64.
        indices: the numbers i of the samples.
        device: where the numbers are wanted; they are always drawn on the CPU.

    Example:
        >>> a = SampleNoise(1, range(4)).normal(3)
        >>> b = SampleNoise(1, [2]).normal(3)
        >>> torch.equal(a[2], b[0])
        True
    """

    def __init__(
        self, seed: int, indices: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        self.device = device
        self.streams = [
            np.random.Generator(np.random.Philox(key=np.array([seed, i], dtype=np.uint64)))
            for i in indices
        ]

    def normal(self, *shape: int) -> Tensor:
        """Return the streams' next standard normals, float32 (B, *shape)."""
        out = np.empty((len(self.streams), *shape), dtype=np.float32)
        for row, stream in zip(out, self.streams, strict=True):
            stream.standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(out).to(self.device)
