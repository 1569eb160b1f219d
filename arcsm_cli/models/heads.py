"""Normalised conditional densities whose parameters are contexts: what maximum likelihood trains.

A *head* reads the context of a site and models the site's S values, one after another. Locations
and scales are in the standardised scale of the model, so that a context of zeros is a start.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.models.config import ModelConfig
from arcsm_cli.registry import LIKELIHOODS

# Bounds of log scales: far narrower than a grey level, and far wider than any data.
_NARROWEST, _WIDEST = -7.0, 20.0
_HALF_BIN = 1.0 / 255.0  # of 8-bit values in [-1, 1]


class Head(ABC):
    """A family of densities of a site's values.

    Attributes:
        site: S, values a site.
        draws: standard normals that drawing a value takes.
        discrete: whether values are 8-bit levels and densities probabilities.
    """

    site: int = 1
    draws: int
    discrete: bool = False

    @classmethod
    @abstractmethod
    def of(cls, config: ModelConfig) -> Head:
        """Return the head of a configuration."""

    @staticmethod
    @abstractmethod
    def width(components: int, site: int) -> int:
        """Return P, how many parameters a site of S values has."""

    @classmethod
    def parameter_count(cls, config: ModelConfig) -> int:
        """Return how many weights the head has of its own, as a module that a model holds."""
        return 0

    def start(self) -> Tensor | None:
        """Return parameters (P,) to begin with where nothing is known, or None for zeros."""
        return None

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Return log p of each value given the site's earlier ones, (..., S), in nats.

        Arguments:
            parameters: (..., P).
            x: (..., S), standardised.
        """

    @abstractmethod
    def draw(self, parameters: Tensor, earlier: Tensor, z: Tensor) -> Tensor:
        """Draw the site's next value from standard normals.

        Arguments:
            parameters: (N, P).
            earlier: (N, k), the site's values so far.
            z: (N, draws).

        Returns:
            (N,), standardised.
        """


class Gaussian(Head):
    """One normal distribution a value: parameters (mean, log standard deviation)."""

    draws = 1

    @classmethod
    def of(cls, config: ModelConfig) -> Gaussian:
        """See `Head.of`."""
        return cls()

    @staticmethod
    def width(components: int, site: int) -> int:
        """See `Head.width`."""
        return 2

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See `Head.log_prob`."""
        mean, log_sd = parameters[..., :1], _bounded(parameters[..., 1:])
        z = (x - mean) * torch.exp(-log_sd)
        return -0.5 * z.square() - log_sd - 0.5 * math.log(2 * math.pi)

    def draw(self, parameters: Tensor, earlier: Tensor, z: Tensor) -> Tensor:
        """See `Head.draw`."""
        return parameters[:, 0] + _bounded(parameters[:, 1]).exp() * z[:, 0]


class LogisticMixture(Head):
    """A mixture of K logistic densities a value: parameters (logits, locations, log scales)."""

    draws = 2

    def __init__(self, components: int) -> None:
        self.components = components

    @classmethod
    def of(cls, config: ModelConfig) -> LogisticMixture:
        """See `Head.of`."""
        return cls(config.components)

    @staticmethod
    def width(components: int, site: int) -> int:
        """See `Head.width`."""
        return 3 * components

    def start(self) -> Tensor:
        """Return components at the quantiles of a standard normal: together about as wide.

        Components that start as one learn alike and stay together, above all those of the first
        variable, whose parameters are biases.
        """
        k = self.components
        places = torch.special.ndtri((torch.arange(k) + 0.5) / k)
        log_scale = math.log(math.sqrt(3 / k) / math.pi)  # a component's variance is 1 / K
        return torch.cat([torch.zeros(k), places, torch.full((k,), log_scale)])

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See `Head.log_prob`."""
        logits, locations, log_scales = parameters.chunk(3, -1)
        log_scales = _bounded(log_scales)
        z = (x - locations) * torch.exp(-log_scales)
        # The logistic density is symmetric: log s(z) + log s(-z) - log scale.
        parts = functional.logsigmoid(z) + functional.logsigmoid(-z) - log_scales
        total = torch.logsumexp(parts + logits.log_softmax(-1), -1, keepdim=True)
        return total

    def draw(self, parameters: Tensor, earlier: Tensor, z: Tensor) -> Tensor:
        """See `Head.draw`."""
        logits, locations, log_scales = parameters.chunk(3, -1)
        k = _component(logits.softmax(-1), z[:, 0])
        location, log_scale = (t.gather(1, k)[:, 0] for t in (locations, log_scales))
        return location + _bounded(log_scale).exp() * _logistic(z[:, 1])


class DiscretizedLogisticMixture(Head):
    """K logistic densities integrated over the 256 bins of 8-bit values (Salimans et al. 2017).

    All channels of a pixel share the component. Channel c's location moves by tanh(coefficient)
    times each earlier channel's value. Parameters, K each: logits; locations of every channel; log
    scales of every channel; coefficients of (G on R), (B on R), (B on G). Values are in [-1, 1].

    A bin's mass is a difference of two distribution functions, whose logarithm has the exact form

        log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)),   a > b,

    without cancellation anywhere; at the ends of the range one of the first two terms remains.
    """

    draws = 2
    discrete = True

    def __init__(self, components: int, channels: int) -> None:
        self.components, self.site = components, channels

    @classmethod
    def of(cls, config: ModelConfig) -> DiscretizedLogisticMixture:
        """See `Head.of`."""
        return cls(config.components, config.site)

    @staticmethod
    def width(components: int, site: int) -> int:
        """See `Head.width`."""
        return components * (1 + 2 * site + site * (site - 1) // 2)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See `Head.log_prob`."""
        logits, locations, log_scales, coefficients = self._split(parameters)
        locations = self._coupled(locations, coefficients, x)
        parts = self._mass(x, locations, log_scales)
        # Of the channels up to each one, together with the component they share.
        joint = torch.cumsum(parts, -2) + logits.log_softmax(-1)[..., None, :]
        total = torch.logsumexp(joint, -1)
        return torch.cat([total[..., :1], total.diff(dim=-1)], -1)

    def draw(self, parameters: Tensor, earlier: Tensor, z: Tensor) -> Tensor:
        """See `Head.draw`."""
        c = earlier.shape[1]
        logits, locations, log_scales, coefficients = self._split(parameters)
        x = functional.pad(earlier, (0, self.site - c))
        locations = self._coupled(locations, coefficients, x)
        weights = logits.log_softmax(-1)
        if c > 0:  # the component given the channels that are known
            weights = weights + self._mass(x, locations, log_scales)[:, :c].sum(1)
        k = _component(weights.softmax(-1), z[:, 0])
        location = locations[:, c].gather(1, k)[:, 0]
        scale = log_scales[:, c].gather(1, k)[:, 0].exp()
        value = (location + scale * _logistic(z[:, 1])).clamp(-1, 1)
        # What falls into a bin is its level.
        return ((value + 1) * 127.5).round() / 127.5 - 1

    def _mass(self, x: Tensor, locations: Tensor, log_scales: Tensor) -> Tensor:
        """Return the log-mass of each component at x (..., S): (..., S, K)."""
        inverse = torch.exp(-log_scales)
        centred = x[..., None] - locations
        # Neither end of the range has an edge beyond it.
        lowest, highest = (x < -1 + _HALF_BIN)[..., None], (x > 1 - _HALF_BIN)[..., None]
        above = functional.logsigmoid((centred + _HALF_BIN) * inverse)
        below = functional.logsigmoid((_HALF_BIN - centred) * inverse)
        both = torch.log(-torch.expm1(-2 * _HALF_BIN * inverse))
        return (
            above.masked_fill(highest, 0.0)
            + below.masked_fill(lowest, 0.0)
            + both.masked_fill(lowest | highest, 0.0)
        )

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (..., K), locations and log scales (..., S, K), coefficients."""
        rows = parameters.view(*parameters.shape[:-1], -1, self.components)
        s = self.site
        coefficients = rows[..., 1 + 2 * s :, :].tanh()
        locations, log_scales = rows[..., 1 : 1 + s, :], rows[..., 1 + s : 1 + 2 * s, :]
        return rows[..., 0, :], locations, _bounded(log_scales), coefficients

    def _coupled(self, locations: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
        """Move locations (..., S, K) by what the earlier channels of x (..., S) say."""
        moved = [locations[..., 0, :]]
        i = 0
        for c in range(1, self.site):
            shift = coefficients[..., i : i + c, :] * x[..., :c, None]
            moved.append(locations[..., c, :] + shift.sum(-2))
            i += c
        return torch.stack(moved, -2)


def _bounded(log_scale: Tensor) -> Tensor:
    return log_scale.clamp(_NARROWEST, _WIDEST)


def _component(weights: Tensor, z: Tensor) -> Tensor:
    """Return the component (N, 1) at the quantile Phi(z) of weights (N, K)."""
    u = torch.special.ndtr(z)[:, None]
    k: Tensor = (weights.cumsum(-1) < u).sum(-1, keepdim=True)
    return k.clamp(max=weights.shape[-1] - 1)


def _logistic(z: Tensor) -> Tensor:
    """Turn standard normals into standard logistic numbers, logit(Phi(z)), stable in the tails."""
    y: Tensor = torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)
    return y


def make_head(config: ModelConfig) -> Head:
    """Return the head that a configuration names.

    Raises:
        ValueError: if it names none.
    """
    if config.likelihood not in LIKELIHOODS:
        raise ValueError(f"no likelihood {config.likelihood!r}")
    kind: type[Head] = LIKELIHOODS[config.likelihood]
    return kind.of(config)
