"""Many examples corrupted and restored, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.stream import Examples
from arcsm_cli.denoising.corruption import Corruption, Mask
from arcsm_cli.denoising.methods import Denoiser
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.randomness import Purpose, SampleNoise


class RestoredBatch(NamedTuple):
    """One batch, on the CPU, in file units.

    Attributes:
        samples: the restored examples.
        beside: ``corrupted``, and ``clean`` where the corruption is ours.
    """

    samples: Tensor
    beside: dict[str, Tensor]


def restore_all(
    denoiser: Denoiser,
    corruption: Corruption | None,
    examples: Examples,
    *,
    clip: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    tick: Callable[[int], None] = lambda scalars: None,
    ranks: Ranks = SOLO,
) -> Iterator[RestoredBatch]:
    """Corrupt examples, unless they are corrupted already, and restore them.

    Arguments:
        corruption: None for examples that are corrupted.
        clip: clip restored images to [0, 1].
        batch_size: examples at a time.
        seed: of the corruption and the restoration; example i's numbers depend on it and i alone.
        tick: called with the number of scalars that are done, of this rank's batches.
        ranks: share the batches, all of which the first one gets; see `Ranks.in_order`.

    Raises:
        DamagedInputError: restored values are not finite.
    """
    model = denoiser.model
    device = model.mean.device

    def own() -> Iterator[RestoredBatch]:
        for start, clean in ranks.batches(examples, batch_size):
            indices = range(start, start + len(clean))
            corrupted = clean
            if corruption is not None:
                drawn = SampleNoise(seed, indices, purpose=Purpose.CORRUPTION)
                corrupted = corruption(clean, drawn)
            noise = SampleNoise(seed, indices, device, Purpose.RESTORATION)

            def ticked(dimensions: int, count: int = len(clean)) -> None:
                tick(dimensions * count)

            y = model.sort(corrupted)
            restored: Tensor = model.unsort(denoiser(y, noise, ticked)).cpu()
            if not restored.isfinite().all():
                raise DamagedInputError("the model's restored values are not finite")
            if clip and model.config.is_image:
                restored = restored.clamp(0, 1)
            if isinstance(corruption, Mask):  # free of rounding
                restored = torch.where(corruption.hidden, restored, clean)
            beside = {"corrupted": corrupted} | ({} if corruption is None else {"clean": clean})
            yield RestoredBatch(restored, beside)

    return ranks.in_order(own(), len(examples), batch_size)
