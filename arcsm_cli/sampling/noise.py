"""Random numbers that belong to samples: stream i depends on the seed and on i, nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


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
