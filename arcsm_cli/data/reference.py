"""Generated images for out-of-distribution scores, in the shape of the model."""

import zlib

import numpy as np
import torch

from arcsm_cli.data.dataset import MAX_BYTES, Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UsageError

DEFAULT_COUNT = 10_000


def read_reference(name: str, like: tuple[int, ...] | None, options: DataOptions) -> Dataset:
    """Return ``uniform`` or ``constant-uniform`` examples of shape ``like`` (float32, in [0, 1)).

    Arguments:
        name: ``uniform`` (each value drawn by itself) or ``constant-uniform`` (one value for
            each whole example).
        options: ``limit``, or ``shuffle``, is the number of examples (default 10,000). Example i
            depends on ``seed`` and i, not on how many are taken.
        like: Shape of one example of the model: (C, H, W) or (D,).

    Raises:
        UsageError: There is no model to take the shape from, or the examples would not fit.
    """
    if like is None:
        raise UsageError(f"'{name}' takes the shape of a model, and there is none here")
    count = options.limit or options.shuffle or DEFAULT_COUNT
    if count * int(np.prod(like)) * 4 > MAX_BYTES:
        raise UsageError(f"'{name}': {count} examples do not fit in memory; use a lower --limit")
    stream = np.random.SeedSequence([options.seed, zlib.crc32(name.encode())])
    rng = np.random.Generator(np.random.Philox(stream))
    shape = like if name == "uniform" else (1,) * len(like)
    values = torch.from_numpy(rng.random((count, *shape), dtype=np.float32))
    return Dataset(name, values.expand(count, *like).contiguous())
