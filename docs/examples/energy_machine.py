"""energy_machine.py: the autoregressive energy machine, a likelihood for arcsm.

Nash and Durkan 2019: each conditional is an energy, a small network of the value and its context,
and a proposal, a mixture whose parameters the context gives; its normaliser is estimated by
importance sampling from the proposal. Here

    p(x | c) = q(x | c) exp(F(x, c)) / Z(c),    Z(c) = E_q[exp F],

with F the conditional score network's twin, which is bounded: every conditional is a density, and
no weight exp F is far from the others. Points are stratified over each component of q, at fixed
quantiles, so that a likelihood is a number and not a draw. The proposal is fitted to the data by
its own likelihood: no gradient reaches it through Z.
"""

import math

import torch
from torch import Tensor, nn

from arcsm_cli.models.heads import Head, LogisticMixture
from arcsm_cli.models.score import ConditionalScoreNetwork
from arcsm_cli.registry import LIKELIHOODS

FEATURES, HIDDEN = 16, (32, 32)  # what the energy reads of a context, and its layers
TRAINED, MEASURED = 4, 32  # points a component


@LIKELIHOODS.register("energy", "a mixture tilted by an energy", tags=("mixture",))
class EnergyMachine(Head, nn.Module):
    """Parameters: those of the proposal, then the features of the energy."""

    draws = 2

    def __init__(self, components: int) -> None:
        nn.Module.__init__(self)
        self.proposal = LogisticMixture(components)
        self.split = [3 * components, FEATURES]
        self.energy = ConditionalScoreNetwork(FEATURES, HIDDEN)
        nn.init.zeros_(self.energy.out.weight)
        nn.init.zeros_(self.energy.out.bias)

    @classmethod
    def of(cls, config):
        return cls(config.components)

    @staticmethod
    def width(components, site):
        return 3 * components + FEATURES

    @classmethod
    def parameter_count(cls, config):
        return sum(p.numel() for p in ConditionalScoreNetwork(FEATURES, HIDDEN).parameters())

    def start(self):
        """Components at the quantiles of a standard normal; features of nothing."""
        return torch.cat([self.proposal.start(), torch.zeros(FEATURES)])

    def points(self, mixture: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Values (..., K S), and the logarithms of what each stands for of the proposal.

        Arguments:
            mixture: (..., 3 K).
            shift: where in its stratum a point lies, in (0, 1), (..., 1, 1).
        """
        logits, locations, log_scales = mixture.chunk(3, -1)
        count = TRAINED if self.training else MEASURED
        strata = torch.arange(count, device=mixture.device, dtype=mixture.dtype)
        places = torch.logit(((strata + shift) / count).clamp(1e-6, 1 - 1e-6))
        values = locations[..., None] + log_scales.clamp(-7, 20).exp()[..., None] * places
        shares = (logits.log_softmax(-1) - math.log(count))[..., None].expand_as(values)
        return values.flatten(-2), shares.flatten(-2)

    def tilted(self, features: Tensor, values: Tensor) -> Tensor:
        """F at values (..., N) of contexts with features (..., FEATURES)."""
        return self.energy.at(values, self.energy.project(features, None)[..., None, :])[0]

    def log_prob(self, parameters, x):
        mixture, features = parameters.split(self.split, -1)
        middle = mixture.new_full((1, 1), 0.5)
        values, shares = self.points(mixture.detach(), middle)
        # The value itself is one more place, so that it takes one pass.
        f = self.tilted(features, torch.cat([x, values], -1))
        log_z = torch.logsumexp(f[..., 1:] + shares, -1, keepdim=True)
        return self.proposal.log_prob(mixture, x) + f[..., :1] - log_z

    def draw(self, parameters, earlier, z):
        """One of the points, each moved alike within its stratum, by its weight."""
        mixture, features = parameters.split(self.split, -1)
        u = torch.special.ndtr(z)
        values, shares = self.points(mixture, u[:, 1, None, None])
        weights = (self.tilted(features, values) + shares).softmax(-1).cumsum(-1)
        k = (weights < u[:, :1]).sum(-1, keepdim=True).clamp(max=values.shape[-1] - 1)
        return values.gather(1, k)[:, 0]
