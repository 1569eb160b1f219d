"""The denoising methods: from a model and what was done to the data to what undoes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.denoising.corruption import Corruption, Mask, SaltPepper
from arcsm_cli.denoising.rules import (
    BLUR,
    AnnealedLangevin,
    Flow,
    MaskPosterior,
    Posterior,
    Rule,
    SaltPepperPosterior,
    Tweedie,
)
from arcsm_cli.denoising.single_step import parallel
from arcsm_cli.denoising.walk import restore
from arcsm_cli.errors import UsageError
from arcsm_cli.models.any_order import whole_places
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.samplers import default_sampler

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Denoiser:
    """A method, ready for batches.

    Attributes:
        rule: how a scalar is restored; None restores all at once, at noise level ``sigma``.
        particles, lag, draw: see `arcsm_cli.denoising.walk.restore`.
        method: its name.
        sigma: the noise level it restores at, None where none is involved.
        level: the stage of that level, for staged models.
    """

    model: ARCSM
    rule: Rule | None
    particles: int = 1
    lag: int = 0
    draw: bool = False
    method: str = ""
    sigma: float | None = None
    level: int = -1

    def __call__(self, observed: Batch | Tensor, noise: SampleNoise, tick: Tick) -> Tensor:
        """Restore sorted examples (B, D) with their own random numbers; (B, D)."""
        if self.rule is None:
            assert self.sigma is not None
            tick(self.model.config.dimensions)
            return parallel(self.model, observed, self.sigma, self.level)
        return restore(
            self.model,
            observed,
            self.rule,
            noise,
            particles=self.particles,
            lag=self.lag,
            draw=self.draw,
            tick=tick,
        )


@dataclass(frozen=True)
class KnownFirst(Denoiser):
    """Draws what is hidden after all that is known, of models of any order: exactly, one by one.

    Attributes:
        hidden: bool (D,), in the model's order.
        draws: whose mean is given.
    """

    hidden: Tensor = field(default_factory=lambda: torch.empty(0))
    draws: int = 1

    def __call__(self, observed: Batch | Tensor, noise: SampleNoise, tick: Tick) -> Tensor:
        """See `Denoiser`."""
        observed, sampler = Batch.of(observed), default_sampler(self.model)
        known = self.model.unsort(observed.x.masked_fill(self.hidden, torch.nan))
        total = torch.zeros_like(observed.x)
        for i in range(self.draws):
            drawn = sample(
                self.model,
                sampler,
                noise,
                given=observed.given,
                known=known,
                denoise=True,
                tick=tick if i == 0 else None,
            )
            total += self.model.sort(drawn)
        return total / self.draws


@dataclass(frozen=True)
class Task:
    """What a method is to undo.

    Attributes:
        corruption: what was done to the data; None if that is unknown.
        sigma, level: the noise level to restore at, and its stage; of a corruption that the method
            takes for what it is, 0 and -1.
    """

    model: ARCSM
    corruption: Corruption | None
    sigma: float
    level: int


def single_step(task: Task) -> Denoiser:
    """Give every scalar its expected clean value at once, given the corrupted example."""
    return Denoiser(task.model, None)


def sequential(task: Task) -> Denoiser:
    """Give one scalar after another its expected clean value, given what is restored."""
    return Denoiser(task.model, Tweedie(task.sigma, task.level))


def ode(task: Task, steps: int = 8) -> Denoiser:
    """Let each scalar follow the probability flow from its noise to the last level."""
    return Denoiser(task.model, Flow(task.sigma, task.model.sigma_min, steps))


def langevin(task: Task, steps: int = 20) -> Denoiser:
    """Run annealed Langevin dynamics from the corrupted value.

    From the first level that is no larger than the noise: more would forget the observation.
    """
    levels = task.model.levels
    first = next(i for i, s in enumerate((*levels, 0.0)) if s <= task.sigma * 1.001)
    first = min(first, len(levels) - 1)
    return Denoiser(task.model, AnnealedLangevin(Langevin(levels[first:], steps), first))


def particles(
    task: Task, particles: int | None = None, lag: int | None = None, draw: bool | None = None
) -> Denoiser:
    """Weigh many restorations by how well they foresee the corrupted values to come.

    A scalar is decided three rows later, unless told otherwise. Vectors are so cheap that they can
    have more particles.

    Raises:
        UsageError: ``lag`` for a draw.
    """
    model, masked = task.model, isinstance(task.corruption, Mask)
    draw = masked if draw is None else draw
    if lag is not None and draw:
        raise UsageError("--lag is of --average: a draw is decided when all is known")
    shape, image = model.config.shape, model.config.is_image
    rows = 3 * shape[0] * shape[2] if image else math.prod(shape)
    count = particles or (16 if image else 64)
    late = min(rows if lag is None else lag, model.config.dimensions)
    return Denoiser(model, _posterior(task), count, late, draw)


def known_first(task: Task, draws: int = 1) -> Denoiser:
    """Draw what a mask hides after all that is known.

    Raises:
        UsageError: the mask hides some channels of a pixel alone.
    """
    assert isinstance(task.corruption, Mask)
    hidden = task.corruption.hidden
    if whole_places(hidden, task.model.config.shape) is None:
        raise UsageError(
            "--corrupt mask: hides some channels of a pixel without the others: use "
            "--method particles"
        )
    return KnownFirst(task.model, None, hidden=_in_order(hidden, task.model), draws=draws)


def _in_order(hidden: Tensor, model: ARCSM) -> Tensor:
    """Return which dimensions are hidden in the model's order, bool (D,)."""
    return hidden.flatten()[model.order.cpu()].to(model.mean.device)


def _posterior(task: Task) -> Rule:
    model, corruption = task.model, task.corruption
    if isinstance(corruption, Mask):
        hidden = _in_order(corruption.hidden, model)
        joint = model.config.annealing == "joint"
        blur = max(BLUR, model.sigma_min) if joint else model.sigma_min
        return MaskPosterior(hidden, model.sigma_min, blur)
    if isinstance(corruption, SaltPepper):
        return SaltPepperPosterior(corruption.probability, model.sigma_min)
    return Posterior(task.sigma, model.sigma_min)
