"""The conditional score network: one small network, shared by all dimensions, and its tangent.

F maps (x, c, log sigma) to a scalar. Its derivative in x is carried along with the value in one
forward pass (dual numbers): x enters through a single input, so the tangent of the first layer is
a constant vector and each further layer costs one more matrix product.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from arcsm_cli.models.fused import ScoreParameters, fused_value, fused_value_and_tangent
from arcsm_cli.models.once import by_hand

_SLOPES = (0.15, 2.0)  # that units of the first layer start with where x is in units of the noise


class ConditionalScoreNetwork(nn.Module):
    """F(x, c, log sigma): a multilayer perceptron with tanh units and a linear output.

    The last hidden layer is bounded, so |F| <= `bound` for every input: what makes the conditional
    densities normalisable (see `arcsm_cli.models.arcsm`).

    Arguments:
        width: C, the size of a context vector.
        hidden: hidden layer sizes, at least one.
        log_sigma: range (low, high) of log sigma, or None for a network of a single noise level.
        span: where x is in units of the noise (see `arcsm`): the range of values that kinks of the
            first layer cover at the start, in standard deviations of what is modelled. None if x
            is in units of the whole spread.

    Example:
        >>> net = ConditionalScoreNetwork(width=3, hidden=(8, 8), log_sigma=(-3.0, 0.0))
        >>> c, x, log_sigma = torch.zeros(5, 3), torch.zeros(5), torch.zeros(5)
        >>> [t.shape for t in net.value_and_tangent(x, c, log_sigma)]
        [torch.Size([5]), torch.Size([5])]
    """

    NOISE_FEATURES = 8

    def __init__(
        self,
        width: int,
        hidden: tuple[int, ...],
        log_sigma: tuple[float, float] | None = None,
        span: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError("the score network needs at least one hidden layer of at least 1 unit")
        self.width = width
        self.log_sigma = log_sigma
        inputs = width + self.level_features(of_levels=bool(log_sigma), in_noise=bool(span))
        self.first = nn.Linear(inputs, hidden[0])
        self.first_x = nn.Parameter(torch.empty(hidden[0]))
        # Kinks of the first layer should cover the range of x, not sit at zero.
        if span is None:
            nn.init.normal_(self.first_x, std=1.5)
            nn.init.normal_(self.first.bias, std=1.0)
        else:  # of many widths, the narrowest half the noise; each at one place, whatever the noise
            low, high = map(math.log10, _SLOPES)
            slopes = torch.logspace(low, high, hidden[0])[torch.randperm(hidden[0])]
            places = torch.empty(hidden[0]).uniform_(*span)
            with torch.no_grad():
                self.first_x.copy_(torch.where(torch.rand(hidden[0]) < 0.5, -slopes, slopes))
                self.first.weight[:, -1] = -self.first_x * places
                self.first.bias.zero_()
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.out = nn.Linear(hidden[-1], 1)

    @classmethod
    def level_features(cls, *, of_levels: bool, in_noise: bool) -> int:
        """Return how many numbers tell the network of the noise level."""
        return (cls.NOISE_FEATURES if of_levels else 0) + in_noise

    @property
    def bound(self) -> Tensor:
        """The largest |F| that these weights allow, a scalar."""
        return self.out.weight.abs().sum() + self.out.bias.abs().sum()

    def parameters_by_role(self) -> ScoreParameters:
        """Return the weights as plain tensors."""
        return ScoreParameters(
            self.first.weight,
            self.first_x,
            self.first.bias,
            tuple((m.weight, m.bias) for m in self.hidden),  # type: ignore[misc]
            self.out.weight[0],
            self.out.bias[0],
        )

    def noise_features(self, log_sigma: Tensor, ratio: Tensor | None = None) -> Tensor:
        """Map log sigma of shape (...,) to a cosine basis on its range, (..., NOISE_FEATURES).

        A ``ratio`` (...,), of the whole spread to the noise, stands behind it.
        """
        assert self.log_sigma is not None
        low, high = self.log_sigma
        phase = (log_sigma - low) * (math.pi / max(high - low, 1e-6))
        k = torch.arange(1, self.NOISE_FEATURES + 1, device=phase.device, dtype=phase.dtype)
        waves = torch.cos(phase[..., None] * k)
        if ratio is None:
            return waves
        ratio = ratio * torch.ones_like(log_sigma)  # either may be one for many
        return torch.cat([waves.expand(*ratio.shape, -1), ratio[..., None]], -1)

    def _fused_inputs(
        self, x: Tensor, c: Tensor, log_sigma: Tensor | None, ratio: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, ScoreParameters]:
        """Flatten x (...,), contexts (..., C) and level features (..., T) to N rows each."""
        features = None
        if self.log_sigma is not None and log_sigma is not None:
            wide = self.noise_features(log_sigma, ratio).to(c.dtype)
            features = wide.expand(*x.shape, -1).reshape(-1, wide.shape[-1])
        return x.reshape(-1), c.reshape(-1, self.width), features, self.parameters_by_role()

    def project(self, c: Tensor, log_sigma: Tensor | None, ratio: Tensor | None = None) -> Tensor:
        """Return what the first layer makes of the context and the level alone, (..., H).

        `at` then evaluates F at many x without repeating this product.
        """
        width = self.width
        p = torch.nn.functional.linear(c, self.first.weight[:, :width], self.first.bias)
        if self.log_sigma is not None and log_sigma is not None:
            p = (
                p
                + self.noise_features(log_sigma, ratio).to(c.dtype) @ self.first.weight[:, width:].T
            )
        return p

    def at(self, x: Tensor, projection: Tensor, *, tangent: bool = False) -> tuple[Tensor, Tensor]:
        """Evaluate (F, dF/dx) at x (...,) given `project`'s result (..., H) by dual numbers.

        Without ``tangent`` the second tensor is empty. Plain operations only: differentiable to
        any order, and what a compiler fuses best.
        """
        p = self.parameters_by_role()
        h = torch.tanh(torch.addcmul(projection, x[..., None], p.x))
        dh = torch.addcmul(p.x, h * h, p.x, value=-1.0) if tangent else None
        for weight, bias in p.hidden:
            h = torch.tanh(torch.nn.functional.linear(h, weight, bias))
            if dh is not None:
                dh = dh @ weight.T
                dh = torch.addcmul(dh, h * h, dh, value=-1.0)
        value = h @ p.out + p.out_bias
        return value, dh @ p.out if dh is not None else value.new_empty(0)

    def value(
        self, x: Tensor, c: Tensor, log_sigma: Tensor | None, ratio: Tensor | None = None
    ) -> Tensor:
        """Return F at x (...,) with contexts (..., C); ``ratio`` as of `noise_features`."""
        if not _runs_fused(x):
            return self.at(x, self.project(c, log_sigma, ratio))[0]
        return fused_value(*self._fused_inputs(x, c, log_sigma, ratio)).view(x.shape)

    def value_and_tangent(
        self, x: Tensor, c: Tensor, log_sigma: Tensor | None, ratio: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (F, dF/dx) at x (...,) with contexts (..., C), in one pass; see `value`."""
        if not _runs_fused(x):
            return self.at(x, self.project(c, log_sigma, ratio), tangent=True)
        value, slope = fused_value_and_tangent(*self._fused_inputs(x, c, log_sigma, ratio))
        return value.view(x.shape), slope.view(x.shape)


def _runs_fused(x: Tensor) -> bool:
    """Whether the blockwise kernel is the better choice: training on the CPU.

    It works through cache-sized blocks. On a GPU, whose memory is fast, plain operations are
    better, and a compiler fuses them.
    """
    return torch.is_grad_enabled() and not x.is_cuda and by_hand(compiled=True)
