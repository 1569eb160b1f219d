"""Distances between images in the features of Inception v3: fid and kid, by torchmetrics.

FID (Heusel et al. 2017) is the Frechet distance of two Gaussians fitted to the features; KID
(Binkowski et al. 2018) an unbiased squared MMD with a cubic kernel, averaged over subsets.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.feature_weights import read_weights
from arcsm_cli.io.streams import label

logger = logging.getLogger(__name__)

FEATURES = 2048

_SUBSETS, _SUBSET_SIZE = 100, 1000  # of kid, as is usual
_MOST = 16  # images at a time on the CPU: more are no faster there, and take 15 MB each

Extract = Callable[[Tensor], Tensor]
"""From images (B, C, H, W) in [0, 1] to their features (B, F) on the CPU."""


class InceptionFeatures:
    """Extracts the 2,048 features of the last pooling layer of Inception v3; see `Extract`.

    Images are taken as 8-bit ones (values outside [0, 1] are clipped), one channel is repeated to
    three, and the network resizes them to 299 x 299, as torchmetrics does by default.

    Arguments:
        source: the file of the network's weights, see `read_weights`.
        device: where to compute.

    Attributes:
        digest: SHA-256 of the file.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is damaged or holds another network; or, on extracting, its
            features are not numbers.
    """

    def __init__(self, source: str, device: str = "cpu") -> None:
        self._name, self._device = label(source), device
        tensors, self.digest = read_weights(source)
        import torch_fidelity  # noqa: F401  without it torchmetrics fails in words of its own
        from torchmetrics.image.fid import NoTrainInceptionV3  # slow: errors come before it

        # The constructor fetches and unpickles unless it is given a file: this one is our own.
        state = io.BytesIO()
        torch.save(tensors, state)
        state.seek(0)
        try:
            network = NoTrainInceptionV3("inception-v3-compat", [str(FEATURES)], cast(str, state))
        except RuntimeError as error:
            raise DamagedInputError(
                f"{self._name}: does not hold Inception v3 with torch-fidelity's names and shapes"
            ) from error
        self._network = network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, 2048) of images (B, C, H, W) in [0, 1], C being 1 or 3."""
        pixels = images.clamp(0, 1).mul(255).round().to(self._device, torch.uint8)
        most = _MOST if self._device == "cpu" else len(pixels)
        parts = torch.split(pixels.expand(-1, 3, -1, -1), most)
        features = torch.cat([self._network(part).cpu() for part in parts])
        if not features.isfinite().all():
            raise DamagedInputError(
                f"{self._name}: the features are not numbers with these weights"
            )
        return features


def feature_distances(
    extract: Extract,
    samples: Iterable[Tensor],
    data: Iterable[Tensor],
    *,
    counts: tuple[int, int],
    metrics: list[str],
    features: int = FEATURES,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, float]:
    """Return ``fid``, and ``kid`` with ``kid_sd``, of samples against data.

    Features are extracted once for both. Images are needed one batch at a time; kid keeps the
    features, 8 KiB an image, fid their sums alone. ``kid`` is a mean over 100 subsets of 1,000
    examples, or of half the smaller side if that is less (subsets of everything would all be the
    same), and ``kid_sd`` the standard deviation between the subsets: since they overlap, it is no
    standard error of the mean.

    Arguments:
        samples, data: batches of images (B, C, H, W) in [0, 1].
        counts: how many images each has, two or more.
        metrics: ``fid``, ``kid``.
        features: F, how many features ``extract`` gives.
        seed: of the subsets.
        advance: called with the number of images of every batch that is done.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    passing = _Passing(features)
    fid = FrechetInceptionDistance(feature=passing) if "fid" in metrics else None
    size = max(2, min(_SUBSET_SIZE, min(counts) // 2))
    kid = None
    if "kid" in metrics:
        kid = KernelInceptionDistance(feature=passing, subsets=_SUBSETS, subset_size=size)
    if fid is not None and min(counts) <= features:
        logger.warning(
            "fid of %d samples and %d examples: with at most %d on a side the covariances of "
            "%d features are singular, and the figure is too high; kid has no such bias",
            *(*counts, features, features),
        )
    for batches, real in ((samples, False), (data, True)):
        for batch in batches:
            found = extract(batch)
            if fid is not None:
                fid.update(found.double(), real=real)
            if kid is not None:
                kid.update(found, real=real)
            advance(len(batch))
    result: dict[str, float] = {}
    if fid is not None:
        result["fid"] = float(fid.compute())
    if kid is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            mean, deviation = kid.compute()
        result |= {"kid": float(mean), "kid_sd": float(deviation)}
    return result


class _Passing(nn.Module):
    """Stands where torchmetrics has its network: what it is given are features already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features
