"""Many examples corrupted and restored, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.stream import Examples
from arcsm_cli.denoising.corruption import Corruption, Mask
from arcsm_cli.denoising.restorers import Denoiser
from arcsm_cli.distributed.ranks import SOLO, Ranks
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.figures import Found, found_in, labels_beside
from arcsm_cli.randomness import Purpose, SampleNoise


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
) -> Iterator[Found]:
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

    def read(batch: Batch, indices: range) -> Found:
        clean = corrupted = batch.x
        if corruption is not None:
            corrupted = corruption(clean, SampleNoise(seed, indices, purpose=Purpose.CORRUPTION))
        noise = SampleNoise(seed, indices, model.mean.device, Purpose.RESTORATION)
        y = batch.holding(model.sort(corrupted))
        restored = model.unsort(denoiser(y, noise, lambda done: tick(done * batch.size))).cpu()
        if not restored.isfinite().all():
            raise DamagedInputError(
                f"{examples.name}: the model's restored values are not finite on these data"
            )
        if clip and model.config.is_image:
            restored = restored.clamp(0, 1)
        if isinstance(corruption, Mask):  # free of rounding
            restored = torch.where(corruption.hidden, restored, clean)
        beside = {"corrupted": corrupted} | ({} if corruption is None else {"clean": clean})
        beside |= labels_beside(model, batch)
        return Found(restored, {}, beside)

    return found_in(examples, read, batch_size=batch_size, ranks=ranks)
