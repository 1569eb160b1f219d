"""The multiscale statistic: scores of one point at all noise levels, against training data's.

Of a point x, the example plus noise of the last level, and s_d(x; sigma) its conditional scores at
noise level sigma, two figures are taken at each of up to `LEVELS` levels:

    mean_d s_d^2,   sum_d (1/2 s_d^2 + ds_d/dx_d).

They tell how far out x_d lies in each conditional, and how peaked that is there, seen ever more
blurred. The statistic is the squared Mahalanobis distance of all of them together from their mean
over training data: two-sided in every direction, and small for examples like those. Contexts do not
depend on the level, so it takes one pass through the context network, and one a level through the
small score network.

It follows the multiscale score matching of Mahmood, Oliva and Styner 2021, who learn the density of
the norms of joint scores at several levels. Here the scores are conditional, which makes their
derivatives as cheap as their norms, and a Gaussian is density enough.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.objectives.csm import summand

LEVELS = 10
"""How many noise levels are looked at, at most."""

FIGURES = 2
"""How many figures the statistic takes at each level."""

NEIGHBOUR = 5
"""Which of the nearest training examples counts, for the statistic ``nearest``."""

SHRINKAGE = 0.03
"""How far correlations are drawn towards zero: some figures are nearly determined by others."""

_ROUNDING = 1e-6  # relative; what float32 scores cannot tell apart
_BLOCK = 1 << 12  # scores at a time on the CPU: activations stay in cache

Values = NDArray[np.float64]


def levels_of(model: ARCSM) -> list[tuple[float, int]]:
    """Return the levels that the statistic looks at: sigma, and its index for staged models.

    Joint models know every level, so these are spread evenly in log sigma. Others know their own;
    of many, some are taken, the first and the last among them.
    """
    own = model.levels
    if model.config.annealing == "joint" and own[0] > own[-1]:
        sigmas = np.geomspace(own[0], own[-1], LEVELS).tolist()
        return [(sigma, -1) for sigma in [*sigmas[:-1], own[-1]]]
    chosen = np.linspace(0, len(own) - 1, min(LEVELS, len(own))).round().astype(int).tolist()
    return [(own[i], i) for i in chosen]


@torch.no_grad()
def summaries(model: ARCSM, batch: Batch | Tensor, levels: list[tuple[float, int]]) -> Tensor:
    """Return score-sum, score-norm and csm of sorted, perturbed examples (B, D) at L levels.

    Arguments:
        levels: sigma and index of each, see `levels_of`.

    Returns:
        (B, L, 3), float64, on the CPU.
    """
    batch = Batch.of(batch)
    x = batch.x
    found = torch.empty(len(x), len(levels), 3, dtype=torch.float64)
    size = len(x) if x.is_cuda else max(1, _BLOCK // x.shape[1])
    stage, contexts = None, x
    for k, (sigma, level) in enumerate(levels):
        if model.stage(level) is not stage:
            stage = model.stage(level)
            contexts = stage.context(batch)
        for i in range(0, len(x), size):
            rows = slice(i, i + size)
            s, ds = model.score_and_derivative(x[rows], contexts[rows], x.new_tensor(sigma), level)
            found[rows, k] = _summary(s.cpu().double(), ds.cpu().double())
    return found


def _summary(s: Tensor, ds: Tensor) -> Tensor:
    return torch.stack([s.sum(1), s.square().mean(1), summand(s, ds).sum(1)], 1)


def vectors(found: Tensor) -> Tensor:
    """Return what the statistic is the distance of, (B, L `FIGURES`), from `summaries`' result."""
    # Without score-sum, the first: it told nothing that the others do not.
    return found[:, :, 1:].flatten(1)


class Moments:
    """Mean and covariance of vectors that come in batches (Chan, Golub and LeVeque 1979).

    Arguments:
        size: F, the vectors' length.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean: Values = np.zeros(size)
        self._scatter: Values = np.zeros((size, size))

    def add(self, vectors: Values) -> None:
        """Take in vectors (B, F)."""
        mean = vectors.mean(0)
        away, apart = vectors - mean, mean - self.mean
        total = self.count + len(vectors)
        self._scatter += away.T @ away
        self._scatter += np.outer(apart, apart) * (self.count * len(vectors) / total)
        self.mean = self.mean + apart * (len(vectors) / total)
        self.count = total

    @property
    def covariance(self) -> Values:
        """The unbiased covariance (F, F); zero of a single vector."""
        scatter = (self._scatter + self._scatter.T) / 2  # symmetric to the last digit
        return scatter / max(self.count - 1, 1)


class Distance(Protocol):
    """How far vectors are from those of training data."""

    def __call__(self, vectors: Values) -> Values:
        """Return the distances (B,) of vectors (B, F)."""


class Mahalanobis:
    """Squared distances from a mean in units of a covariance whose correlations are shrunk.

    With R the correlations and w = `SHRINKAGE`, (1 - w) R + w I takes their place: positive
    definite whatever the covariance, so that fewer vectors than figures will do, and figures that
    others determine.

    Arguments:
        mean, covariance: (F,) and (F, F), of training data.

    Example:
        >>> distance = Mahalanobis(np.zeros(2), np.eye(2))
        >>> distance(np.array([[3.0, 4.0]]))
        array([25.])
    """

    def __init__(self, mean: Values, covariance: Values) -> None:
        # Figures that never change over training data: any other value is far, not at infinity.
        floor = _ROUNDING * np.maximum(np.abs(mean), 1.0)
        self._mean = mean
        self._deviation = np.maximum(np.sqrt(np.diag(covariance)), floor)
        correlation = covariance / np.outer(self._deviation, self._deviation)
        shrunk = (1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(mean))
        self._whiten: NDArray[Any] = np.linalg.inv(np.linalg.cholesky(shrunk))

    def __call__(self, vectors: Values) -> Values:
        """Return the squared distances (B,) of vectors (B, F)."""
        squares: Values = np.square(self.white(vectors)).sum(1)
        return squares

    def white(self, vectors: Values) -> Values:
        """Return vectors (B, F) in coordinates in which squared lengths are these distances."""
        found: Values = ((vectors - self._mean) / self._deviation) @ self._whiten.T
        return found


class Nearest:
    """Squared distances from the k-th nearest of training data's vectors, k = `NEIGHBOUR`.

    Lengths are those of a Mahalanobis distance; no shape of the vectors' cloud is supposed.

    Arguments:
        metric: of the same training data.
        vectors: theirs, (N, F); of fewer than k the farthest counts.

    Example:
        >>> plain = Mahalanobis(np.zeros(1), np.eye(1))
        >>> Nearest(plain, np.arange(10.0)[:, None])(np.array([[-1.0]]))
        array([25.])
    """

    def __init__(self, metric: Mahalanobis, vectors: Values) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._metric, self._count = metric, min(NEIGHBOUR, len(vectors))
        # By brute force: trees are of no use in so many dimensions, and round otherwise.
        self._neighbours = NearestNeighbors(n_neighbors=self._count, algorithm="brute")
        self._neighbours.fit(metric.white(vectors))

    def __call__(self, vectors: Values) -> Values:
        """Return the squared distances (B,) of vectors (B, F)."""
        distances, _ = self._neighbours.kneighbors(self._metric.white(vectors))
        squares: Values = np.square(distances[:, -1])
        return squares
