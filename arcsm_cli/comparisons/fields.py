"""Score fields that all objectives can be applied to: s(x) of (B, D), twice differentiable.

Those of autoregressive models also offer `with_derivative`: conditional scores s_d and their
univariate derivatives ds_d/dx_d, all that composite score matching needs. Examples are in the
model's scale and order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.once import differentiable_twice


class EnergyField(nn.Module):
    """The joint score -grad E of E(x) = |x|^2 / 2 + a perceptron of two softplus layers.

    The first term is what the AR-CSM's preconditioning is for data of variance 1: both start near
    independent standard normals.

    Arguments:
        dimensions: D.
        width: of both hidden layers.
    """

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(dimensions, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 1, bias=False)

    def energy(self, x: Tensor) -> Tensor:
        """Return E, (B,)."""
        h = nn.functional.softplus(self.second(nn.functional.softplus(self.first(x))))
        e: Tensor = 0.5 * x.square().sum(1) + self.out(h)[:, 0]
        return e

    def forward(self, x: Tensor) -> Tensor:
        """Return the score (B, D) at x (B, D), with its graph."""
        if not x.requires_grad:
            x = x.requires_grad_()
        (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return -slope


class ConditionalField(nn.Module):
    """The conditional scores of an AR-CSM of one level without noise: s_d of x_1..x_d."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = ARCSM(config)

    def forward(self, x: Tensor) -> Tensor:
        """Return s (B, D) by plain operations, differentiable twice."""
        with differentiable_twice():
            return self.model.score(x, self.model.contexts(x), x.new_zeros(()))

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return s and ds_d/dx_d, (B, D) each, in one pass."""
        return self.model.score_and_derivative(x, self.model.contexts(x), x.new_zeros(()))


class LikelihoodField(nn.Module):
    """The scores of a model with normalised conditionals: of the joint, and one by one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = ARMLE(config)

    def forward(self, x: Tensor) -> Tensor:
        """Return the joint score grad_x log p(x), (B, D)."""
        if not x.requires_grad:
            x = x.requires_grad_()
        with differentiable_twice():
            log_p = self.model.log_prob(x).sum()
        (s,) = torch.autograd.grad(log_p, x, create_graph=True)
        return s

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return d log p(x_d | x_<d) / dx_d and its derivative in x_d, (B, D) each.

        log p_d depends on a value through nothing but that value once contexts are fixed, so two
        backward passes through the head give all D of them.
        """
        model = self.model
        contexts = model.contexts(x)
        value = x.detach().requires_grad_()
        sites = ((value - model.mean) / model.sd).view(len(x), -1, model.head.site)
        log_p = model.head.log_prob(contexts, sites).sum()
        (s,) = torch.autograd.grad(log_p, value, create_graph=True)
        (ds,) = torch.autograd.grad(s.sum(), value, create_graph=True)
        return s, ds


def conditional_config(dimensions: int, *, hidden: int = 128) -> ModelConfig:
    """Return the AR-CSM of the experiments on Gaussians: one level, no noise, variance 1."""
    return ModelConfig(
        shape=(dimensions,),
        levels=(0.0,),
        annealing="none",
        context_width=8,
        hidden=(hidden, hidden),
        score_hidden=(32, 32),
    )


def energy_width(dimensions: int, weights: int) -> int:
    """Return the width of the `EnergyField` with about so many weights: W^2 + (D + 3) W.

    Example:
        >>> w = energy_width(100, 150_000)
        >>> abs(sum(p.numel() for p in EnergyField(100, w).parameters()) / 150_000 - 1) < 0.01
        True
    """
    b = dimensions + 3
    return max(1, round((math.sqrt(b * b + 4 * weights) - b) / 2))
