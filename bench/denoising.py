"""What a user would reach for instead of `arcsm denoise`, on the very images that it restored.

    arcsm denoise MODEL mnist --corrupt gaussian:0.6 --limit 200 -o restored.h5
    python bench/denoising.py restored.h5 --sigma 0.3

Median filter, non-local means and total variation from scikit-image, BM3D from its authors'
package (`pip install bm3d scikit-image`). Each method's strength is chosen per file for the best
PSNR on the first images, which favours these baselines. ``--sigma`` is the noise in [0, 1]: half
of that in the model's scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arcsm_cli.io.samples import SampleFile
from arcsm_cli.registry import METRICS

Image = NDArray[Any]
Denoise = Callable[[Image], Image]
_TUNED_ON = 40


def candidates(sigma: float, *, colour: bool) -> dict[str, list[Denoise]]:
    """Each baseline at a range of strengths, for images (H, W) or (H, W, 3) in [0, 1]."""
    import bm3d
    from skimage.filters import median
    from skimage.morphology import disk, footprint_rectangle
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    axis = -1 if colour else None
    shapes = [footprint_rectangle((3, 3)), disk(1), disk(2), footprint_rectangle((5, 5))]

    def medians(x: Image, shape: Image) -> Image:
        if not colour:
            return median(x, shape)
        return np.stack([median(channel, shape) for channel in np.moveaxis(x, -1, 0)], -1)

    def collaborative(x: Image, f: float) -> Image:
        if not colour:
            return bm3d.bm3d(x, f * sigma)
        # Channel by channel: its colour transform divides by zero on images of few colours.
        return np.stack([bm3d.bm3d(channel, f * sigma) for channel in np.moveaxis(x, -1, 0)], -1)

    def means(x: Image, h: float) -> Image:
        return denoise_nl_means(
            x,
            patch_size=5,
            patch_distance=11,
            h=h * sigma,
            sigma=sigma,
            fast_mode=False,
            channel_axis=axis,
        )

    return {
        "median": [lambda x, s=s: medians(x, s) for s in shapes],
        "non-local means": [lambda x, h=h: means(x, h) for h in (0.4, 0.6, 0.8, 1.0)],
        "total variation": [
            lambda x, w=w: denoise_tv_chambolle(x, weight=w * sigma, channel_axis=axis)
            for w in (0.5, 1, 1.5, 2, 3)
        ],
        "BM3D": [lambda x, f=f: collaborative(x, f) for f in (0.7, 0.85, 1.0, 1.2)],
    }


def main() -> None:
    """Print PSNR and SSIM of each baseline, beside those of the file's own restorations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--sigma", type=float, required=True)
    options = parser.parse_args()
    with SampleFile(options.file) as samples:
        count = len(samples)
        clean, corrupted, restored = (
            np.moveaxis(samples.read(0, count, name), 1, -1)
            for name in ("clean", "corrupted", "samples")
        )
    colour = clean.shape[-1] == 3
    if not colour:
        clean, corrupted, restored = (x[..., 0] for x in (clean, corrupted, restored))
    print(f"{count} images\n{'method':18}    psnr    ssim")
    _print("corrupted", corrupted, clean)
    for name, strengths in candidates(options.sigma, colour=colour).items():
        few = slice(0, _TUNED_ON)
        best = max(strengths, key=lambda f: _psnr(_all(f, corrupted[few]), clean[few]))
        _print(name, _all(best, corrupted), clean)
    _print("arcsm denoise", restored, clean)


def _all(denoise: Denoise, images: Image) -> Image:
    return np.stack([denoise(image.astype(np.float64)) for image in images])


def _psnr(x: Image, clean: Image) -> float:
    return float(_figure("psnr", x, clean).mean())


def _figure(metric: str, x: Image, clean: Image) -> torch.Tensor:
    pair = (a[..., None] if a.ndim == 3 else a for a in (x, clean))
    restored, truth = (
        torch.from_numpy(np.moveaxis(a, -1, 1).astype(np.float32).copy()) for a in pair
    )
    found: torch.Tensor = METRICS[metric](restored.clamp(0, 1), truth)
    return found


def _print(name: str, x: Image, clean: Image) -> None:
    psnr, ssim = (_figure(metric, x, clean).double() for metric in ("psnr", "ssim"))
    print(f"{name:18} {float(psnr.mean()):7.2f} {float(ssim.mean()):7.3f}", flush=True)


if __name__ == "__main__":
    main()
