"""All figures of a sample file, alone or against data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.image_features import Extract, feature_distances
from arcsm_cli.evaluation.sample_metrics import moments
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.registry import METRICS

_VALUES = 1 << 18  # of the samples, read at a time


def check_comparable(samples: SampleFile, name: str, data: Dataset) -> None:
    """Refuse samples and data between which there is no distance.

    Arguments:
        name: what messages call the samples.

    Raises:
        DamagedInputError: their examples differ in shape, or there is only one on a side.
    """
    if data.shape != samples.shape:
        theirs, ours = (" x ".join(map(str, shape)) for shape in (data.shape, samples.shape))
        raise DamagedInputError(f"{data.name}: examples are {theirs}, the samples {ours}")
    for which, count in ((name, len(samples)), (data.name, len(data))):
        if count < 2:
            raise DamagedInputError(f"{which}: has one example, distances take two or more")


def check_images(samples: SampleFile, name: str, metric: str) -> None:
    """Refuse samples from which Inception v3 extracts no features.

    Raises:
        UsageError: they are vectors, or have other than one or three channels.
    """
    if len(samples.shape) != 3:
        raise UsageError(f"--metric {metric} compares images; {name} holds vectors")
    if samples.shape[0] not in (1, 3):
        raise UsageError(
            f"--metric {metric} takes images of 1 or 3 channels; those of {name} have "
            f"{samples.shape[0]}"
        )


def measure(
    samples: SampleFile,
    data: Dataset | None,
    *,
    metrics: list[str],
    extract: Extract | None = None,
    batch_size: int = 128,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, float]:
    """Return the figures by name.

    Samples are read block by block for ``moments`` and batch by batch for fid and kid; the
    distances without features are between all pairs, and hold them.

    Arguments:
        data: what the samples are compared with, of their shape; None for moments alone.
        metrics: those of `arcsm_cli.registry.METRICS` for samples.
        extract: the features for fid and kid, where they are asked for.
        batch_size: images at a time.
        seed: of what distances draw at random.
        advance: called with the number of images whose features are done.

    Raises:
        DamagedInputError: a block of the samples is damaged.
    """
    result: dict[str, float] = {}
    if "moments" in metrics:
        result |= moments(_batches(samples, _block(samples)))
    distances = [name for name in metrics if METRICS.has(name, "distance")]
    if data is not None and distances:
        x, y = _whole(samples), data.take(torch.arange(len(data)))
        for name in distances:
            result |= METRICS[name](x, y, seed)
    if data is not None and extract is not None:
        result |= feature_distances(
            extract,
            _batches(samples, batch_size),
            (batch.x for batch in data.batches(batch_size)),
            counts=(len(samples), len(data)),
            metrics=metrics,
            seed=seed,
            advance=advance,
        )
    return result


def _whole(samples: SampleFile) -> Tensor:
    # Into its place block by block: a reader that gives all at once holds it a second time.
    dtype = torch.float64 if samples.wide else torch.float32
    x = torch.empty(len(samples), *samples.shape, dtype=dtype)
    start = 0
    for block in _batches(samples, _block(samples)):
        x[start : start + len(block)] = block
        start += len(block)
    return x


def _block(samples: SampleFile) -> int:
    return max(1, _VALUES // math.prod(samples.shape))


def _batches(samples: SampleFile, size: int) -> Iterator[Tensor]:
    for start in range(0, len(samples), size):
        yield torch.from_numpy(samples.read(start, start + size))
