"""Conditionals whose densities, scores and distribution functions are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arcsm_cli.models.arcsm import ARCSM


class Mixture:
    """A model of two equal Gaussians, x_d = +-offset + noise, and its exact distribution.

    The score of w N(m + a, v) + (1 - w) N(m - a, v) is

        -(x - m) / v + (a / v) tanh(a (x - m) / v + logit(w) / 2),

    exactly what a score network with a single tanh unit can say at one noise level. The context
    moves the unit's bias, so that w of dimension d is a function of x_<d.

    Attributes:
        model: staged or of one level, in float64.
        offset, spread: a, and the standard deviation of each Gaussian before noise.
    """

    def __init__(self, model: ARCSM, offset: float, spread: float) -> None:
        self.model, self.offset, self.spread = model, offset, spread
        with torch.no_grad():
            for stage, sigma in zip(model.networks, model.levels, strict=True):
                # Equal contexts: only then are the levels those of one annealed density.
                stage.load_state_dict(model.networks[-1].state_dict())
                v = spread**2 + sigma**2
                net = stage.score
                net.first_x.fill_(offset / math.sqrt(v))
                net.out.weight.fill_(offset / v * math.sqrt(v) * sigma / spread)
                net.out.bias.zero_()

    def weight(self, x: Tensor, level: int = -1) -> Tensor:
        """w of each scalar of examples (B, D)."""
        net = self.model.stage(level).score
        c = self.model.contexts(x, level)
        half: Tensor = c @ net.first.weight[0] + net.first.bias[0]
        return torch.sigmoid(2 * half).detach()

    def log_density(self, x: Tensor, level: int = -1) -> Tensor:
        """log p(x_d | x_<d), (B, D)."""
        w, v = self.weight(x, level), self._variance(level)
        square = [-((x - self.model.mean - a) ** 2) / (2 * v) for a in self._centres]
        both = torch.stack([w.log() + square[0], (1 - w).log() + square[1]])
        return torch.logsumexp(both, 0) - 0.5 * math.log(2 * math.pi * v)

    def cdf(self, x: Tensor, level: int = -1) -> Tensor:
        """P(X_d <= x_d | x_<d), (B, D): uniform for samples of the model."""
        w, scale = self.weight(x, level), math.sqrt(self._variance(level))
        up, down = (torch.special.ndtr((x - self.model.mean - a) / scale) for a in self._centres)
        return w * up + (1 - w) * down

    @property
    def _centres(self) -> tuple[float, float]:
        return self.offset, -self.offset

    def _variance(self, level: int) -> float:
        return self.spread**2 + self.model.levels[level] ** 2


class ExactScore:
    """What `arcsm_cli.models.conditional.LevelScore` offers, for a known mixture of Gaussians."""

    def __init__(self, rows: ExactRows, sigma: float) -> None:
        variance = rows.spread**2 + sigma**2
        self.rows_of, self.sigma = rows, sigma
        self.mean, self.pull = rows.mean, -1.0 / variance
        self.tail = torch.full((len(rows),), math.sqrt(variance), dtype=torch.float64)
        self.reach = torch.full_like(self.tail, max(abs(c - rows.mean) for c in rows.centres))

    def rows(self, rows: Tensor) -> ExactScore:
        return self.rows_of.some(len(rows)).at(self.sigma)

    def __call__(self, x: Tensor) -> Tensor:
        return self.with_derivative(x)[0]

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            log_p = self.rows_of.log_density(leaf, self.sigma).sum()
            (s,) = torch.autograd.grad(log_p, leaf, create_graph=True)
            (ds,) = torch.autograd.grad(s.sum(), leaf)
        return s.detach(), ds

    def walk(self, x: Tensor, scale: float, noise: Tensor) -> Tensor:
        for push in noise:
            x = x + scale * self(x) + push
        return x


class ExactRows:
    """What `arcsm_cli.models.conditional.Conditionals` offers: n times one mixture, at any sigma.

    Attributes:
        weights, centres, scale: of the Gaussians before noise.
    """

    def __init__(
        self,
        n: int,
        levels: tuple[float, ...],
        weights: tuple[float, ...],
        centres: tuple[float, ...],
        scale: float,
    ) -> None:
        self.n, self.levels = n, levels
        self.weights, self.centres, self.scale = weights, centres, scale
        self.mean = sum(w * c for w, c in zip(weights, centres, strict=True))
        second = sum(w * c * c for w, c in zip(weights, centres, strict=True))
        self.spread = math.sqrt(second - self.mean**2 + scale**2)

    def __len__(self) -> int:
        return self.n

    def rows(self, rows: slice) -> ExactRows:
        return self.some(len(range(self.n)[rows]))

    def some(self, n: int) -> ExactRows:
        return ExactRows(n, self.levels, self.weights, self.centres, self.scale)

    def at(self, sigma: float, level: int = -1) -> ExactScore:
        return ExactScore(self, sigma)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        v = self.scale**2 + sigma**2
        centres, weights = (x.new_tensor(t) for t in (self.centres, self.weights))
        terms = weights.log() - (x[..., None] - centres) ** 2 / (2 * v)
        return torch.logsumexp(terms, -1) - 0.5 * math.log(2 * math.pi * v)

    def cdf(self, x: Tensor, sigma: float) -> Tensor:
        centres, weights = (x.new_tensor(t) for t in (self.centres, self.weights))
        parts = torch.special.ndtr((x[..., None] - centres) / math.sqrt(self.scale**2 + sigma**2))
        return (weights * parts).sum(-1)

    def draw(self, sigma: float) -> Tensor:
        """n samples of the mixture plus noise, (n,)."""
        generator = torch.Generator().manual_seed(0)
        which = torch.multinomial(
            torch.tensor(self.weights), self.n, replacement=True, generator=generator
        )
        noise = torch.randn(self.n, generator=generator, dtype=torch.float64)
        centres = torch.tensor(self.centres, dtype=torch.float64)
        return centres[which] + math.sqrt(self.scale**2 + sigma**2) * noise
