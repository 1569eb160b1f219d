"""Estimators of the scores of q(z|x): conditional scores by an AR-CSM, or a joint score field.

Both state the score of a code in units of a location m and a scale t: with u = (z - m) / t it is
(-u + F(u, ...)) / t. F = 0 is a Gaussian; what a score network has to learn is the rest, at the
same size for narrow and for wide posteriors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from arcsm_cli.models.masked import MaskedLinear
from arcsm_cli.models.score import ConditionalScoreNetwork
from arcsm_cli.models.vae_config import VAEConfig
from arcsm_cli.models.vae_networks import NARROWEST
from arcsm_cli.models.vae_triangular import Frame


class ConditionalScores(nn.Module):
    """s_d = d/dz_d log q(z_d | z_<d, x) for all d: a MADE over z given x, and one score network.

    m and t are those of the encoder, which are functions of z_<d and x: learning them once more
    from samples takes far longer than they take to change. F is bounded, so that every conditional
    is a density, for every weight value.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        codes, units = config.latent_dim, config.hidden[1]
        self.width = config.context_width
        # Degree m sees z_1..z_m and x; degree 0, x alone.
        degrees = torch.div(torch.arange(units) * codes, units, rounding_mode="floor")
        inputs = torch.arange(1, codes + 1)
        self.given = nn.Linear(config.hidden[0], units)
        self.first = MaskedLinear(inputs, degrees)
        self.second = MaskedLinear(degrees, degrees)
        self.out = MaskedLinear(degrees, inputs.repeat_interleave(self.width), strict=True)
        self.score = ConditionalScoreNetwork(config.context_width, config.score_hidden)
        with torch.no_grad():  # starts as a Gaussian, as the encoder does
            self.score.out.weight *= 0.1
            self.score.out.bias.zero_()

    def contexts(self, z: Tensor, features: Tensor) -> Tensor:
        """Return a context (B, L, C) of each code, given earlier codes and features (B, H)."""
        h = (self.first(z) + self.given(features.tanh())).tanh()
        h = self.second(h).tanh()
        c: Tensor = self.out(h)
        return c.view(*z.shape, self.width)

    def forward(self, z: Tensor, features: Tensor, frame: Frame) -> Tensor:
        """Return the conditional scores (B, L) at z (B, L)."""
        u = (z - frame.location) / frame.scale
        return (self.score.value(u, self.contexts(z, features), None) - u) / frame.scale

    def with_derivative(self, z: Tensor, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return s_d and ds_d/dz_d, (B, L) each, in one pass."""
        u = (z - frame.location) / frame.scale
        f, df = self.score.value_and_tangent(u, self.contexts(z, features), None)
        return (f - u) / frame.scale, (df - 1) / frame.scale.square()


class JointScores(nn.Module):
    """The gradient of log q(z|x) in z, by an unrestricted network."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        codes = config.latent_dim
        self.given = nn.Linear(config.hidden[0], config.hidden[1])
        self.moments = nn.Linear(config.hidden[1], 2 * codes)
        self.first = nn.Linear(codes, config.hidden[1])
        self.second = nn.Linear(config.hidden[1], config.hidden[1])
        self.out = nn.Linear(config.hidden[1], codes)
        with torch.no_grad():
            self.moments.weight *= 0.1
            self.out.weight *= 0.1

    def with_scale(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score and the scale of each code, (B, L) each."""
        given = self.given(features.tanh())
        m, log_t = self.moments(given.tanh()).chunk(2, 1)
        t = log_t.clamp(min=NARROWEST).exp()
        u = (z - m) / t
        h = self.second((self.first(u) + given).tanh()).tanh()
        return (self.out(h) - u) / t, t

    def forward(self, z: Tensor, features: Tensor) -> Tensor:
        """Return the score (B, L)."""
        return self.with_scale(z, features)[0]
