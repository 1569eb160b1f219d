"""Conditionals and whole models with known posteriors, in the place of networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normals, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class MixtureRows:
    """What `Conditionals` offers: N mixtures of K normals of one width, exact at every level.

    Arguments:
        weights, centres: (N, K).
        sd: before noise.
        sigma_min: the last level.
    """

    def __init__(
        self, weights: Tensor, centres: Tensor, sd: float, sigma_min: float, *, image: bool = False
    ) -> None:
        self.weights, self.centres, self.sd = weights, centres, sd
        self.levels = (10.0, sigma_min)
        self.projections = [weights]
        self.owner = SimpleNamespace(
            model=SimpleNamespace(config=SimpleNamespace(is_image=image)), levels=self.levels
        )

    def __len__(self) -> int:
        return len(self.weights)

    def rows(self, rows: slice | Tensor) -> MixtureRows:
        image = self.owner.model.config.is_image
        weights, centres = self.weights[rows], self.centres[rows]
        return MixtureRows(weights, centres, self.sd, self.levels[-1], image=image)

    def at(self, sigma: float, level: int = -1) -> MixtureScore:
        return MixtureScore(self, sigma)

    def denoised(self, x: Tensor) -> Tensor:
        sigma = self.levels[-1]
        return x + sigma**2 * self.at(sigma)(x)


class MixtureScore:
    """What `LevelScore` offers, of `MixtureRows`."""

    def __init__(self, rows: MixtureRows, sigma: float) -> None:
        self.of, self.sigma, self.v = rows, sigma, rows.sd**2 + sigma**2
        self.mean = (rows.weights * rows.centres).sum(1)
        self.pull = torch.full_like(self.mean, -1 / self.v)
        self.tail = torch.full_like(self.mean, math.sqrt(self.v))
        self.reach = (rows.centres - self.mean[:, None]).abs().max(1).values

    def rows(self, rows: Tensor) -> MixtureScore:
        return MixtureScore(self.of.rows(rows), self.sigma)

    def _terms(self, x: Tensor) -> Tensor:
        extra = (1,) * (x.ndim - 1)
        weights, centres = (t.view(len(t), *extra, -1) for t in (self.of.weights, self.of.centres))
        return weights.log() - (x[..., None] - centres).square() / (2 * self.v)

    def log_density(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self._terms(x), -1) - 0.5 * math.log(2 * math.pi * self.v)

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = self._terms(x).softmax(-1)
        c = self.of.centres.view(len(self.of), *(1,) * (x.ndim - 1), -1)
        mean = (r * c).sum(-1)
        spread = (r * c.square()).sum(-1) - mean.square()
        return (mean - x) / self.v, (spread / self.v - 1) / self.v

    def __call__(self, x: Tensor) -> Tensor:
        return self.with_derivative(x)[0]

    def walk(self, x: Tensor, scale: float, noise: Tensor) -> Tensor:
        for push in noise:
            x = x + scale * self(x) + push
        return x


class KnownModel:
    """What the walk asks of a model, with conditionals that a function gives.

    Arguments:
        conditionals: maps past values at the last level (N, d) to weights and centres, (N, K) each.
        dimensions: D.
        sd: of each normal, before noise.
        sigma_min: the last level.
    """

    def __init__(
        self,
        conditionals: Callable[[Tensor], tuple[Tensor, Tensor]],
        dimensions: int,
        sd: float,
        sigma_min: float,
        *,
        image: bool = False,
    ) -> None:
        self.conditionals, self.dimensions, self.sd = conditionals, dimensions, sd
        self.sigma_min, self.image = sigma_min, image

    def rows(self, past: Tensor) -> MixtureRows:
        """The conditionals given past values (N, d)."""
        weights, centres = self.conditionals(past)
        return MixtureRows(weights, centres, self.sd, self.sigma_min, image=self.image)


class _Walk:
    def __init__(self, model: KnownModel, batch: int) -> None:
        self.model, self.past = model, torch.zeros(batch, 0, dtype=torch.float64)

    def conditionals(self) -> MixtureRows:
        return self.model.rows(self.past)

    def append(self, x: Tensor) -> None:
        self.past = torch.cat([self.past, x[:, None]], 1)

    def select(self, rows: Tensor) -> None:
        self.past = self.past[rows]


class Exact:
    """In the place of `ConditionalModel`; real models go on as they are."""

    def __init__(self, model: KnownModel) -> None:
        self.model = model

    def walk(self, given: Tensor) -> _Walk:
        return _Walk(self.model, len(given))

    def of_examples(self, batch: Batch | Tensor) -> Any:
        x = Batch.of(batch).x
        columns = [self.model.rows(x[:, :d]) for d in range(x.shape[1])]
        weights, centres = (
            torch.stack([getattr(c, name) for c in columns], 1).flatten(0, 1)
            for name in ("weights", "centres")
        )
        return MixtureRows(weights, centres, self.model.sd, self.model.sigma_min)


class CorrelatedGaussian(KnownModel):
    """N(mean, covariance) with the exact conditionals of clean values given noisy past ones.

    All conditionals have to have one standard deviation (`MixtureRows`), so the covariance is made
    from them: x_d = a_d . x~_<d + sd e, where x~ carry the noise of the last level.
    """

    def __init__(self, dimensions: int, *, sd: float = 0.8, sigma_min: float = 0.1) -> None:
        self.a = torch.tril(normal(dimensions, dimensions, seed=3) * 0.5, -1)
        self.mean = normal(dimensions, seed=4)
        super().__init__(self._centre, dimensions, sd, sigma_min)
        # x~ = mean + (I - a)^-1 total e, with a standard normal e.
        total = math.hypot(sd, sigma_min)
        root = torch.linalg.inv(torch.eye(dimensions, dtype=torch.float64) - self.a) * total
        self.covariance = root @ root.T

    def _centre(self, past: Tensor) -> tuple[Tensor, Tensor]:
        d = past.shape[1]
        centre = self.mean[d] + (past - self.mean[:d]) @ self.a[d, :d]
        return torch.ones_like(centre)[:, None], centre[:, None]

    def posterior_mean(self, y: Tensor, sigma: float) -> Tensor:
        """E[x~ | y] for y = x~ plus the rest of the noise, up to ``sigma``; (B, D)."""
        rest = (sigma**2 - self.sigma_min**2) * torch.eye(self.dimensions, dtype=torch.float64)
        gain = self.covariance @ torch.linalg.inv(self.covariance + rest)
        return self.mean + (y - self.mean) @ gain.T

    def clean_mean(self, x: Tensor) -> Tensor:
        """E[x | x~] for the clean values x and noisy x~ (B, D)."""
        centre = self.mean + (x - self.mean) @ self.a.T
        return x + self.sigma_min**2 / (self.sd**2 + self.sigma_min**2) * (centre - x)
