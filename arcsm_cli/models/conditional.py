"""A batch of univariate conditionals p(x_d | x_<d): what samplers and likelihoods work on."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.models.arcsm import ARCSM, Preconditioning


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
        self.scales = Preconditioning.of(model.mean, model.sd, model.mean.new_tensor(sigma))
        self.noise: Tensor | None = None
        if net.log_sigma is not None:
            features = net.noise_features(model.mean.new_tensor(math.log(sigma)))
            self.noise = self.weights.context[:, net.width :] @ features
        # One dimension's scales as plain numbers keep the samplers' inner loop short.
        self.numbers = list(zip(*(t.tolist() for t in self.scales), strict=True))


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

    def of_dimension(self, contexts: list[Tensor], d: int) -> Conditionals:
        """Return dimension d's conditionals for a batch; contexts (B, C), one a stage."""
        return Conditionals(self, self._project(contexts), d)

    def of_examples(self, x: Tensor) -> Conditionals:
        """Return all B x D conditionals of sorted examples (B, D), rows in example order."""
        contexts = [stage.context(x).flatten(0, 1) for stage in self.model.networks]
        dims = torch.arange(x.shape[1], device=x.device).repeat(len(x))
        return Conditionals(self, self._project(contexts), dims)

    def _project(self, contexts: list[Tensor]) -> list[Tensor]:
        nets = [stage.score for stage in self.model.networks]
        return [
            functional.linear(c, net.first.weight[:, : net.width], net.first.bias)
            for net, c in zip(nets, contexts, strict=True)
        ]


class Conditionals:
    """N univariate conditionals whose contexts went through the first layer already.

    Attributes:
        projections: (N, H), one a stage.
        dims: the dimension all rows belong to, or an int64 tensor (N,) that says it for each.
    """

    def __init__(
        self, owner: ConditionalModel, projections: list[Tensor], dims: int | Tensor
    ) -> None:
        self.owner, self.projections, self.dims = owner, projections, dims

    @property
    def levels(self) -> tuple[float, ...]:
        """The model's noise levels, largest first."""
        return self.owner.model.levels

    @property
    def spread(self) -> float:
        """The data's largest standard deviation over the rows' dimensions."""
        sd = self.owner.model.sd
        return float(sd[self.dims].max())

    def __len__(self) -> int:
        return len(self.projections[0])

    def rows(self, rows: slice) -> Conditionals:
        """Return some of the rows."""
        dims = self.dims if isinstance(self.dims, int) else self.dims[rows]
        return Conditionals(self.owner, [p[rows] for p in self.projections], dims)

    def at(self, sigma: float, level: int = -1) -> LevelScore:
        """Return the scores at one noise level, ready to be evaluated many times."""
        return LevelScore(self, self.owner.constants(sigma, level))


class LevelScore:
    """s(x) of N conditionals at one noise level.

    Attributes:
        mean, pull: s is pull * (x - mean) plus a bounded term; numbers or (N,).
    """

    def __init__(self, rows: Conditionals, constants: LevelConstants) -> None:
        base = rows.projections[constants.stage]
        self.base = base if constants.noise is None else base + constants.noise
        self.weights = constants.weights
        self.mean: float | Tensor
        self.pull: float | Tensor
        if isinstance(rows.dims, int):
            self.mean, self.pull, self.gain, self.c_in = constants.numbers[rows.dims]
        else:
            self.mean, self.pull, self.gain, self.c_in = (t[rows.dims] for t in constants.scales)

    def __call__(self, x: Tensor) -> Tensor:
        """Return s at x, (N,) or (N, G), in x's shape."""
        return self._evaluate(x, tangent=False)[0]

    def with_derivative(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (s, ds/dx) at x, (N,) or (N, G)."""
        return self._evaluate(x, tangent=True)

    def walk(self, x: Tensor, scale: float, noise: Tensor) -> Tensor:
        """Take len(noise) steps x <- x + scale s(x) + noise[i] of one dimension's conditionals.

        The step is affine in x and in the last hidden layer, so all constants fold into the
        weights and the noise beforehand: six operations a step remain.

        Arguments:
            x: (N,).
            noise: (steps, N).
        """
        assert not isinstance(self.mean, Tensor), "walk serves one dimension"
        w, c_in = self.weights, self.c_in
        keep = 1.0 + scale * float(self.pull)
        gain = c_in * scale * self.gain
        out = w.out * gain
        y = (x - self.mean) * c_in  # the standardised variable
        pushes = (noise * c_in).add_(w.out_bias * gain)
        hidden = [(weight.T, bias) for weight, bias in w.hidden]
        for push in pushes:
            h = torch.addcmul(self.base, y[:, None], w.x).tanh_()
            for weight, bias in hidden:
                h = torch.addmm(bias, h, weight).tanh_()
            y = torch.addmv(push, h, out).add_(y, alpha=keep)
        return y.div_(c_in).add_(self.mean)

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
        mean, pull, gain, c_in = self.mean, self.pull, self.gain, self.c_in
        base, w = self.base, self.weights
        if x.ndim == 2:
            base = base[:, None]
            if isinstance(mean, Tensor):
                mean, pull, gain, c_in = (t[:, None] for t in (mean, pull, gain, c_in))  # type: ignore[index]
        centred = x - mean
        h = torch.addcmul(base, (centred * c_in)[..., None], w.x).tanh_()
        dh = torch.addcmul(w.x, h * h, w.x, value=-1.0) if tangent else None
        for weight, bias in w.hidden:
            h = functional.linear(h, weight, bias).tanh_()
            if dh is not None:
                dh = dh @ weight.T
                dh = torch.addcmul(dh, h * h, dh, value=-1.0)
        s = (h @ w.out).add_(w.out_bias).mul_(gain).add_(centred * pull)
        if dh is None:
            return s, s
        return s, (dh @ w.out).mul_(gain * c_in).add_(pull)
