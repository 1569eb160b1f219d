"""A batch of univariate conditionals p(x_d | x_<d): what samplers and likelihoods work on."""

from __future__ import annotations

import copy
import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.any_order import visits
from arcsm_cli.models.arcsm import ARCSM, Frame, Preconditioning
from arcsm_cli.models.quantile import QuantileFunction

Numbers = tuple[float, float, float, float, float]
"""What `Preconditioning` says of one dimension at one level."""


class LevelConstants:
    """What all conditionals of a model share at one noise level, computed once.

    Arguments:
        model: the AR-CSM.
        sigma: noise standard deviation.
        level: which stage answers, for staged models.
    """

    def __init__(self, model: ARCSM, sigma: float, level: int) -> None:
        net = model.stage(level).score
        self.stage = level % len(model.levels) if len(model.stages) > 1 else 0
        self.weights = net.parameters_by_role()
        self.sigma = model.mean.new_tensor(sigma)
        self.in_noise = model.config.in_noise
        self.scales = Preconditioning.of(model.mean, model.sd, self.sigma, in_noise=self.in_noise)
        self.narrowest = sigma if sigma > 0 else math.inf  # nothing is known without noise
        self.noise: Tensor | None = None
        if net.log_sigma is not None:
            features = net.noise_features(model.mean.new_tensor(math.log(sigma)))
            width = net.width + net.NOISE_FEATURES
            self.noise = self.weights.context[:, net.width : width] @ features
        # One dimension's scales as plain numbers keep the samplers' inner loop short.
        self.numbers: list[Numbers] = list(zip(*(t.tolist() for t in self.scales), strict=True))
        self._folded: dict[Numbers, tuple[Tensor, Tensor]] = {}

    def folded(self, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Return the first layer's shift and x-weights, (H,) each, for x as it is.

        The level's noise features and the standardisation of x become part of both. Dimensions of
        equal scale (all of an image) share the result.
        """
        if numbers not in self._folded:
            mean, _, _, c_in, ratio = numbers
            shift = self.weights.x * (-mean * c_in)
            if self.in_noise:
                shift = shift + ratio * self.weights.context[:, -1]
            noise = shift if self.noise is None else shift + self.noise
            self._folded[numbers] = (noise, self.weights.x * c_in)
        return self._folded[numbers]


class ConditionalModel:
    """A model with its level constants remembered; hands out `Conditionals`."""

    def __init__(self, model: ARCSM) -> None:
        self.model = model
        self._constants: dict[tuple[float, int], LevelConstants] = {}

    def constants(self, sigma: float, level: int) -> LevelConstants:
        """Return the constants of a noise level."""
        key = (sigma, level)
        if key not in self._constants:
            self._constants[key] = LevelConstants(self.model, sigma, level)
        return self._constants[key]

    def walk(self, given: Tensor, order: Tensor | None = None) -> ScoreWalk:
        """Start B examples, of which ``given`` (B, G) is known; see `ScoreWalk`."""
        return ScoreWalk(self, given, order)

    def of_examples(self, batch: Batch | Tensor) -> Conditionals:
        """Return all B x D conditionals of sorted examples (B, D), rows in example order."""
        batch = Batch.of(batch)
        contexts = [stage.context(batch).flatten(0, 1) for stage in self.model.networks]
        dims = torch.arange(batch.x.shape[1], device=batch.x.device).repeat(len(batch.x))
        return Conditionals(self, contexts, dims)


class ScoreWalk:
    """A batch of examples in the making; see `arcsm_cli.sampling.draw.Walk`.

    Arguments:
        given: (B, G).
        order: (B, P), in which the examples visit their places; None for the model's own.
    """

    def __init__(self, owner: ConditionalModel, given: Tensor, order: Tensor | None = None) -> None:
        self.owner = owner
        self.states = owner.model.incremental(given, order)
        self.dims = visits(order, owner.model.config.dimensions)
        self.d = 0

    def conditionals(self) -> Conditionals:
        """Return the next dimension's conditionals."""
        contexts = [state.contexts() for state in self.states]
        return Conditionals(self.owner, contexts, self.dims[self.d])

    def append(self, x: Tensor) -> None:
        """Fix the next dimension's values (B,) and move on."""
        for state in self.states:
            state.append(x)
        self.d += 1

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (B,) of the batch: row i becomes rows[i]."""
        for state in self.states:
            state.select(rows)
        if isinstance(self.dims, Tensor):
            self.dims = self.dims[:, rows]


class Conditionals:
    """N univariate conditionals, which take their contexts through the first layer once.

    Attributes:
        contexts: (N, C), one a stage; with frames (N, C + 2).
        dims: the dimension all rows belong to, or an int64 tensor (N,) that says it for each.
    """

    def __init__(self, owner: ConditionalModel, contexts: list[Tensor], dims: int | Tensor) -> None:
        self.owner, self.contexts, self.dims = owner, contexts, dims

    @cached_property
    def projections(self) -> list[Tensor]:
        """What the first layers make of the contexts, (N, H), one a stage."""
        found = []
        for stage, c in zip(self.owner.model.networks, self.contexts, strict=True):
            first, width = stage.score.first, stage.score.width
            found.append(functional.linear(c[:, :width], first.weight[:, :width], first.bias))
        return found

    @cached_property
    def frames(self) -> list[Frame]:
        """The frames that contexts end with, (N,) each, one a stage; none without frames."""
        if not self.owner.model.config.has_frames:
            return []
        return [self.owner.model.framed(c)[1] for c in self.contexts]

    @property
    def levels(self) -> tuple[float, ...]:
        """The model's noise levels, largest first."""
        return self.owner.model.levels

    @property
    def spread(self) -> float | Tensor:
        """The data's largest standard deviation over the rows' dimensions; with frames, (N,)."""
        if self.frames:
            return self.frames[-1].scale
        return float(self.owner.model.sd[self.dims].max())

    def __len__(self) -> int:
        return len(self.contexts[0])

    def rows(self, rows: slice | Tensor) -> Conditionals:
        """Return some of the rows; with a tensor of their numbers, perhaps repeated."""
        dims = self.dims if isinstance(self.dims, int) else self.dims[rows]
        return Conditionals(self.owner, [c[rows] for c in self.contexts], dims)

    def quantiles(self) -> QuantileFunction:
        """Return the quantile functions that a distilled model has of the rows."""
        return self.owner.model.quantile_function(self.contexts[-1], self.dims)

    def denoised(self, x: Tensor) -> Tensor:
        """Return E[clean value | x] (N,) by Tweedie's formula at the last level."""
        sigma = self.levels[-1]
        return x + sigma**2 * self.at(sigma)(x)

    def at(self, sigma: float, level: int = -1) -> LevelScore:
        """Return the scores at one noise level, ready to be evaluated many times."""
        return LevelScore(self, self.owner.constants(sigma, level))


class LevelScore:
    """s(x) of N conditionals at one noise level.

    The first layer sees base + v first_x, where v is x itself if all rows have the same scales,
    those of one dimension (standardisation is then folded into the weights), else the
    standardised x.

    Attributes:
        mean, pull: s is pull * (x - mean) plus a bounded term; numbers or (N,).
        sigma: the noise; no mode is narrower.
    """

    def __init__(self, rows: Conditionals, constants: LevelConstants) -> None:
        self.weights = constants.weights
        self.sigma = constants.narrowest
        self.mean: float | Tensor
        self.pull: float | Tensor
        self.gain: float | Tensor
        self.c_in: float | Tensor
        projection = rows.projections[constants.stage]
        if not rows.frames and isinstance(rows.dims, int):
            numbers = constants.numbers[rows.dims]
            self.mean, self.pull, self.gain, self.c_in, _ = numbers
            shift, self.first_x = constants.folded(numbers)
            self.base = projection + shift
        else:
            scales = Preconditioning(*(t[rows.dims] for t in constants.scales))
            if rows.frames:
                frame = rows.frames[constants.stage]
                scales = Preconditioning.of(*frame, constants.sigma, in_noise=constants.in_noise)
            self.mean, self.pull, self.gain, self.c_in, ratio = scales
            self.base = projection if constants.noise is None else projection + constants.noise
            if constants.in_noise:
                self.base = torch.addcmul(
                    self.base, ratio[:, None], constants.weights.context[:, -1]
                )
            self.first_x = self.weights.x

    def rows(self, rows: Tensor) -> LevelScore:
        """Return the scores of some of the conditionals, by their numbers."""
        part = copy.copy(self)
        part.base = self.base[rows]
        for name in ("mean", "pull", "gain", "c_in"):
            if isinstance(scales := getattr(self, name), Tensor):
                setattr(part, name, scales[rows])
        return part

    def __call__(self, x: Tensor) -> Tensor:
        """Return s at x, (N,) or (N, G), in x's shape."""
        return self._evaluate(x, tangent=False)[0]

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (s, ds/dx) at x, (N,) or (N, G)."""
        return self._evaluate(x, tangent=True)

    def walk(self, x: Tensor, scale: float | Tensor, noise: Tensor) -> Tensor:
        """Take len(noise) steps x <- x + scale s(x) + noise[i].

        The step is affine in x and in the last hidden layer, so all constants fold into the
        weights and the noise beforehand: six operations a step remain, eight where rows have
        scales of their own.

        Arguments:
            x: (N,).
            scale: one, or (N,).
            noise: (steps, N) or, where all rows take the same, (steps, 1).
        """
        w = self.weights
        if isinstance(self.mean, Tensor):
            return self._walk_each(x, scale, noise)
        scale = float(scale)
        keep = 1.0 + scale * float(self.pull)
        gain = scale * float(self.gain)
        out = w.out * gain
        pushes = noise + (w.out_bias * gain - scale * float(self.pull) * self.mean)
        hidden = [(weight.T, bias) for weight, bias in w.hidden]
        for push in pushes:
            h = torch.addcmul(self.base, x[:, None], self.first_x).tanh_()
            for weight, bias in hidden:
                # Not addmm, which would first copy the bias to every row.
                h = torch.mm(h, weight).add_(bias).tanh_()
            x = torch.addmv(push, h, out).add_(x, alpha=keep)
        return x

    def _walk_each(self, x: Tensor, scale: float | Tensor, noise: Tensor) -> Tensor:
        """Take the steps of `walk` in v, the standardised x."""
        w, hidden = self.weights, [(weight.T, bias) for weight, bias in self.weights.hidden]
        keep = 1.0 + scale * self.pull
        force = self.c_in * scale * self.gain
        v = self.c_in * (x - self.mean)
        for push in self.c_in * noise + force * w.out_bias:
            h = torch.addcmul(self.base, v[:, None], self.first_x).tanh_()
            for weight, bias in hidden:
                h = torch.mm(h, weight).add_(bias).tanh_()
            v = torch.mv(h, w.out).mul_(force).add_(push).add_(v * keep)
        return self.mean + v / self.c_in

    @property
    def reach(self) -> Tensor:
        """A distance from the mean beyond which s points back whatever the context, (N,)."""
        bound = self.weights.out.abs().sum() + self.weights.out_bias.abs()
        reach: Tensor = bound * (self.gain / -self.pull)
        return reach.expand(len(self.base))

    @property
    def tail(self) -> Tensor:
        """The standard deviation of the Gaussian that the tails fall off like, (N,)."""
        ones = self.base.new_ones(len(self.base))
        tail: Tensor = ones.mul_(-self.pull).rsqrt_()
        return tail

    def _evaluate(self, x: Tensor, *, tangent: bool) -> tuple[Tensor, Tensor]:
        scales: tuple[Any, ...] = (self.mean, self.pull, self.gain, self.c_in)
        each = isinstance(self.mean, Tensor)  # every row has scales of its own
        base, first_x, w = self.base, self.first_x, self.weights
        if x.ndim == 2:
            base = base[:, None]
            scales = tuple(t[:, None] for t in scales) if each else scales
        mean, pull, gain, c_in = scales
        centred = x - mean
        v = centred * c_in if each else x
        h = torch.addcmul(base, v[..., None], first_x).tanh_()
        dh = torch.addcmul(first_x, h * h, first_x, value=-1.0) if tangent else None
        for weight, bias in w.hidden:
            h = functional.linear(h, weight, bias).tanh_()
            if dh is not None:
                dh = dh @ weight.T
                dh = torch.addcmul(dh, h * h, dh, value=-1.0)
        s = (h @ w.out).add_(w.out_bias).mul_(gain).add_(centred * pull)
        if dh is None:
            return s, s
        inner = gain * c_in if each else gain
        return s, (dh @ w.out).mul_(inner).add_(pull)
