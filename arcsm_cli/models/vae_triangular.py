"""An implicit encoder that is triangular in the noise, and the frame that its codes are seen in."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from arcsm_cli.models.once import differentiable_once
from arcsm_cli.models.vae_config import VAEConfig
from arcsm_cli.models.vae_networks import NARROWEST

_NOISE_UNITS = 32  # of the small network that bends the noise
_LEAST = 1e-4  # variance of the bent noise


class TriangularEncoder(nn.Module):
    """z_d = g_d(eps_d, z_<d, x): implicit, and triangular in the noise.

    One code after another. A hidden layer that grows by a column with each code (as in NADE,
    Larochelle & Murray 2011) tells location, scale and context of the next; a small network shared
    by all codes bends the noise: z_d = m_d + e^l_d (eps_d + G(c_d, eps_d)). G is any function, so
    the density of z has no closed form. Because z_d reads earlier codes and not earlier noise, it
    is independent of the latter given the former: what the gradient by conditional scores rests on.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        units, codes, width = config.hidden[1], config.latent_dim, config.context_width
        self.hidden = nn.Linear(config.hidden[0], config.hidden[1])
        self.codes = nn.Parameter(torch.randn(codes, units) / math.sqrt(units))
        self.out = nn.Parameter(torch.randn(codes, units, width + 2) / math.sqrt(units))
        self.bias = nn.Parameter(torch.zeros(codes, width + 2))
        self.context = nn.Linear(width, _NOISE_UNITS)
        self.noise = nn.Parameter(torch.randn(_NOISE_UNITS))
        self.bend = nn.Parameter(torch.zeros(_NOISE_UNITS))  # starts as a Gaussian encoder

    def forward(self, features: Tensor, eps: Tensor) -> Tensor:
        """Map features (B, H) and standard normals (B, L) to z (B, L)."""
        return self.draw(features, eps)[0]

    def draw(self, features: Tensor, eps: Tensor) -> tuple[Tensor, Frame]:
        """Return z (B, L), and location and scale of each code, through which no gradient goes."""
        first = self.hidden(features.tanh())
        weights = (self.codes, self.out, self.bias)
        small = (self.context.weight, self.context.bias, self.noise, self.bend)
        z, p = _Draw.apply(first, eps, *weights, *small)
        return z, self._frame(p)

    def frame(self, features: Tensor, z: Tensor) -> Frame:
        """Return location and scale of each code given the earlier ones of z (B, L), all at once.

        A function of z with the weights as they are: no gradient reaches the encoder.
        """
        codes, out, bias = self.codes.detach(), self.out.detach(), self.bias.detach()
        with torch.no_grad():
            first = self.hidden(features.tanh())
        terms = z[..., None] * codes
        a = first[:, None] + terms.cumsum(1) - terms
        return self._frame(torch.einsum("blh,lhp->blp", a.tanh(), out) + bias)

    def _frame(self, p: Tensor) -> Frame:
        """Return mean and deviation of each code given its parameters (B, L, C + 2).

        By Gauss-Hermite quadrature over the noise, exact where G is a polynomial of degree four.
        """
        nodes, weights = _hermite_rule(p.device, p.dtype)
        units, bend = self.noise.detach(), self.bend.detach()
        own = functional.linear(
            p[..., 2:], self.context.weight.detach(), self.context.bias.detach()
        )
        bent = nodes + (own[..., None, :] + nodes[:, None] * units).tanh() @ bend
        mean = bent @ weights
        variance = bent.square() @ weights - mean.square()
        scale = p[..., 1].clamp(min=NARROWEST).exp()
        return Frame(p[..., 0] + scale * mean, scale * variance.clamp(min=_LEAST).sqrt())


@functools.cache
def _hermite_rule(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of a mean over standard normals.

    Copied to a device once: each copy would wait for all that it computes.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    return (
        torch.tensor(nodes, device=device, dtype=dtype),
        torch.tensor(weights / weights.sum(), device=device, dtype=dtype),
    )


class Frame(NamedTuple):
    """Mean and deviation of codes, (B, L) each, in whose units their scores are stated."""

    location: Tensor
    scale: Tensor


class _Draw(torch.autograd.Function):
    """The walk through the codes, forward and backward.

    A code is a dozen small operations, and autograd's bookkeeping would cost as much as they do.
    Backward leaves what needs no order, the gradients of the weights, to the end: one product for
    all codes together.
    """

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        eps: Tensor,
        codes: Tensor,
        out: Tensor,
        bias: Tensor,
        context: Tensor,
        context_bias: Tensor,
        noise: Tensor,
        bend: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch, count = eps.shape
        z = torch.empty_like(eps)
        bent = torch.empty_like(eps)
        t = first.new_empty(count, batch, first.shape[1])  # hidden units seen by each code
        p = first.new_empty(count, batch, out.shape[2])
        h = first.new_empty(count, batch, len(noise))
        a = first.clone()
        for d in range(count):
            torch.tanh(a, out=t[d])
            torch.addmm(bias[d], t[d], out[d], out=p[d])
            torch.addmm(context_bias, p[d][:, 2:], context.T, out=h[d])
            h[d].addcmul_(eps[:, d, None], noise).tanh_()
            bent[:, d] = torch.addmv(eps[:, d], h[d], bend)
            scale = p[d][:, 1].clamp(min=NARROWEST).exp()
            z[:, d] = torch.addcmul(p[d][:, 0], scale, bent[:, d])
            a.addcmul_(z[:, d, None], codes[d])
        ctx.save_for_backward(eps, codes, out, context, bend, z, bent, t, p, h)
        parameters = p.transpose(0, 1)
        ctx.mark_non_differentiable(parameters)
        return z, parameters

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        eps, codes, out, context, bend, z, bent, t, p, h = ctx.saved_tensors
        count = eps.shape[1]
        grad_a = torch.zeros_like(t[0])
        grad_codes = torch.empty_like(codes)
        grad_p, grad_q = torch.empty_like(p), torch.empty_like(h)
        grad_bent = torch.empty_like(h[..., 0])
        for d in reversed(range(count)):
            grad_codes[d] = z[:, d] @ grad_a
            grad_z = torch.addmv(grad[:, d], grad_a, codes[d])
            log_scale = p[d][:, 1]
            scaled = grad_z * log_scale.clamp(min=NARROWEST).exp()
            grad_bent[d] = scaled
            grad_p[d][:, 0] = grad_z
            grad_p[d][:, 1] = scaled * bent[:, d] * (log_scale >= NARROWEST)
            slope = torch.addcmul(bend, h[d] * h[d], bend, value=-1.0)
            torch.mul(slope, scaled[:, None], out=grad_q[d])
            grad_p[d][:, 2:] = grad_q[d] @ context
            grad_t = grad_p[d] @ out[d].T
            grad_a += grad_t.addcmul_(grad_t * t[d], t[d], value=-1.0)
        flat_q = grad_q.flatten(0, 1)
        return (
            grad_a,
            None,
            grad_codes,
            t.mT @ grad_p,
            grad_p.sum(1),
            flat_q.T @ p[..., 2:].flatten(0, 1),
            flat_q.sum(0),
            eps.T.flatten() @ flat_q,
            grad_bent.flatten() @ h.flatten(0, 1),
        )
