"""How near restored images are to the clean ones: PSNR, SSIM and MSE.

SSIM is that of Wang et al. 2004: a Gaussian window of 11 pixels and deviation 1.5, averaged over
the places where it lies inside the image, which is what scikit-image gives with
``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.parts import any_of
from arcsm_cli.registry import METRICS

_LEAST_SIDE = 11  # of the window that SSIM looks through


def restoration_figures(
    samples: SampleFile,
    name: str,
    *,
    metrics: list[str],
    batch_size: int = 256,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Return the mean of each metric over the images, with its standard error (``NAME_se``).

    And the same of the corrupted ones, where the file holds them, as ``corrupted_NAME``. Read batch
    by batch. Values are clipped to [0, 1] first, for vectors not.

    Arguments:
        samples: restored, with ``clean``.
        name: what messages call the file.
        metrics: those of `arcsm_cli.registry.METRICS` for restored examples; PSNR and SSIM take the
            range of the data to be 1.

    Raises:
        DamagedInputError: the file holds no clean examples.
        UsageError: a metric does not fit the examples.
    """
    if "clean" not in samples.names:
        raise DamagedInputError(f"{name}: holds no clean examples to compare with")
    image = len(samples.shape) == 3
    of_vectors = METRICS.tagged("vectors")
    if not image and set(metrics) - set(of_vectors):
        raise UsageError(f"{name} holds vectors, which have only --metric {any_of(of_vectors)}")
    if "ssim" in metrics and min(samples.shape[1:]) < _LEAST_SIDE:
        raise UsageError(f"--metric ssim takes images of {_LEAST_SIDE} pixels a side at least")
    versions = {"": "samples"}
    if "corrupted" in samples.names:
        versions["corrupted_"] = "corrupted"
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(samples), batch_size):
        stop = start + batch_size
        clean = torch.from_numpy(samples.read(start, stop, "clean"))
        for prefix, dataset in versions.items():
            x = torch.from_numpy(samples.read(start, stop, dataset))
            if image:
                x = x.clamp(0, 1)
            for metric in metrics:
                found.setdefault(prefix + metric, []).append(METRICS[metric](x, clean))
        advance(len(clean))
    result = {}
    for key, parts in found.items():
        values = torch.cat(parts).double()
        result[key] = float(values.mean())
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        result[f"{key}_se"] = error
    return result


def ssim(x: Tensor, clean: Tensor) -> Tensor:
    """Return the structural similarity of each image to the clean one, (B,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    # In double precision: variances are differences of squares.
    _, places = structural_similarity_index_measure(
        x.double(), clean.double(), reduction="none", data_range=1.0, return_full_image=True
    )
    inside = slice(_LEAST_SIDE // 2, -(_LEAST_SIDE // 2))  # beyond, it pads by reflection
    return places[:, :, inside, inside].flatten(1).mean(1)


def mse(x: Tensor, clean: Tensor) -> Tensor:
    """Return the mean squared error of each example, (B,)."""
    return (x - clean).square().flatten(1).mean(1)


def psnr(x: Tensor, clean: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB, (B,).

    An image restored without error would be infinitely good: it counts as 8 bits' rounding.
    """
    return -10 * mse(x, clean).clamp(min=(1 / 510) ** 2).log10()
