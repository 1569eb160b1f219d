"""The autoregressive conditional score model (paper, section 3; preconditioning as in EDM).

A *stage* is a context network with a conditional score network. An AR-CSM holds one stage, or one
a noise level when annealing is staged. For a scalar x_d with context c and noise sigma

    s(x; c, sigma) = -(x - m) / (sd^2 + sigma^2) + k F(c_in (x - m), c, log sigma),
    k = sd / (sigma sqrt(sd^2 + sigma^2)),   c_in = 1 / sqrt(sd^2 + sigma^2),

which is (Dn - x) / sigma^2 with the denoiser Dn of Karras et al. 2022 (EDM, table 1) applied per
scalar. m and sd are the data's mean and standard deviation or, with conditional frames, location
and scale that the context gives (see `frames`). F is bounded (see `score`), so s pulls back
linearly in both tails and exp(integral of s) is integrable for every weight value.

Between modes much wider apart than the noise, F turns within a small part of the spread. With
``score_input`` noise it therefore reads (x - m) / sigma in place of c_in (x - m), and the ratio of
both units, so that its units can stay at one place whatever the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arcsm_cli.models.architecture import FRAME_WIDTH
from arcsm_cli.models.base import AutoregressiveModel, Stage
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import IncrementalContexts
from arcsm_cli.models.quantile import QuantileFunction, QuantileHead
from arcsm_cli.models.score import ConditionalScoreNetwork
from arcsm_cli.models.variate import PosteriorShares


class Frame(NamedTuple):
    """Where conditionals lie and how wide they are, before noise; (...,) each."""

    location: Tensor
    scale: Tensor


class Preconditioning(NamedTuple):
    """s(x) = pull (x - mean) + gain F(c_in (x - mean)); tensors that broadcast against x.

    ``ratio`` is c_in in units of the whole spread: 1 unless F reads x in units of the noise.
    """

    mean: Tensor
    pull: Tensor
    gain: Tensor
    c_in: Tensor
    ratio: Tensor

    @classmethod
    def of(
        cls, mean: Tensor, sd: Tensor, sigma: Tensor, *, in_noise: bool = False
    ) -> Preconditioning:
        """Build from mean and sd of what is modelled and the noise level, all broadcastable."""
        # Without noise (annealing none, sigma 0) there is no noise scale: the data's own is taken.
        sigma = torch.where(sigma > 0, sigma, sd)
        total = sd.square() + sigma.square()
        c_in = total.rsqrt()
        ratio = total.sqrt() / sigma if in_noise else torch.ones_like(c_in)
        return cls(mean, -1.0 / total, sd * c_in / sigma, c_in * ratio, ratio)


class ScoreStage(Stage):
    """A context network and the conditional score network that reads it."""

    score: ConditionalScoreNetwork

    def __init__(self, config: ModelConfig, mean: Tensor, sd: Tensor) -> None:
        super().__init__(config, mean, sd)
        joint = config.annealing == "joint"
        log_sigma = torch.tensor(config.levels).log().tolist() if joint else None
        self.score = ConditionalScoreNetwork(
            config.context_width,
            config.score_hidden,
            (log_sigma[-1], log_sigma[0]) if log_sigma else None,
            _span(config) if config.in_noise else None,
        )


def _span(config: ModelConfig) -> tuple[float, float]:
    """Return where values lie, in standard deviations from the mean, and a little more."""
    if not config.is_image:
        return -2.5, 2.5
    low, high = ((edge - config.mean[0]) / config.sd[0] for edge in (-1.0, 1.0))
    return low - 0.5, high + 0.5


class ARCSM(AutoregressiveModel):
    """D univariate scores s_d(x_1..x_d) = d/dx_d log p(x_d | x_<d) with shared networks.

    All methods work on sorted examples, as those of `AutoregressiveModel`.

    Example:
        >>> model = ARCSM(ModelConfig(shape=(4,), levels=(1.0, 0.1), hidden=(8,)))
        >>> x = torch.zeros(2, 4)
        >>> s, ds = model.score_and_derivative(x, model.contexts(x), torch.tensor(0.1))
        >>> s.shape, ds.shape
        (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    kind = "ar-csm"

    shares: PosteriorShares | None
    """What csm's control variate is read off while the model is trained, or None."""

    quantiles: QuantileHead | None
    """What a distilled model draws with; all else, its teacher's, is not trained any more."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.shares = None
        stages = len(config.levels) if config.annealing == "staged" else 1
        self.stages = nn.ModuleList(ScoreStage(config, self.mean, self.sd) for _ in range(stages))
        self.quantiles = None
        if (of := config.quantiles) is not None:
            self.stages.requires_grad_(False)
            width = config.context_width
            self.quantiles = QuantileHead(width, of.quantile_hidden, of.quantile_bins)

    @property
    def networks(self) -> Sequence[ScoreStage]:
        """The stages as a plain list: one, or one a noise level."""
        return [stage for stage in self.stages if isinstance(stage, ScoreStage)]

    def stage(self, level: int = -1) -> ScoreStage:
        """Return the networks that serve noise level number ``level``."""
        return self.networks[level if len(self.stages) > 1 else 0]

    def framed(self, c: Tensor, dims: slice | int | Tensor = slice(None)) -> tuple[Tensor, Frame]:
        """Return what the score network reads of contexts (..., d, C), and the scalars' frames."""
        if not self.config.has_frames:
            return c, Frame(self.mean[dims], self.sd[dims])
        return c[..., :-FRAME_WIDTH], Frame(c[..., -2], c[..., -1].exp())

    def quantile_function(self, c: Tensor, dims: int | Tensor) -> QuantileFunction:
        """Return what a distilled model knows of N scalars by their contexts (N, C).

        Arguments:
            c: of the last level, with frames (N, C + 2).
            dims: the dimension of all, or of each, int64 (N,).
        """
        assert self.quantiles is not None
        c, frame = self.framed(c, dims)
        scale = (frame.scale.square() + self.sigma_min**2).sqrt()
        return QuantileFunction(self.quantiles(c), frame.location[..., None], scale[..., None])

    def score(
        self, x: Tensor, c: Tensor, sigma: Tensor, level: int = -1, dims: slice = slice(None)
    ) -> Tensor:
        """Return s_d at x.

        Arguments:
            x: values (..., d) of the dimensions ``dims``.
            c: their contexts (..., d, C), with frames (..., d, C + 2).
            sigma: noise level, broadcastable against x; a network of one level ignores it but for
                the preconditioning.
            level: which stage answers, for staged models.
            dims: which dimensions x holds.
        """
        c, frame = self.framed(c, dims)
        p = Preconditioning.of(*frame, sigma, in_noise=self.config.in_noise)
        centred = x - p.mean
        f = self.stage(level).score.value(p.c_in * centred, c, *self._told(sigma, p))
        return p.pull * centred + p.gain * f

    def score_and_derivative(
        self, x: Tensor, c: Tensor, sigma: Tensor, level: int = -1, dims: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Return (s_d, ds_d/dx_d) at x in one forward pass; arguments as in `score`."""
        c, frame = self.framed(c, dims)
        p = Preconditioning.of(*frame, sigma, in_noise=self.config.in_noise)
        centred = x - p.mean
        f, df = self.stage(level).score.value_and_tangent(
            p.c_in * centred, c, *self._told(sigma, p)
        )
        return p.pull * centred + p.gain * f, p.pull + p.gain * p.c_in * df

    def _told(self, sigma: Tensor, p: Preconditioning) -> tuple[Tensor, Tensor | None]:
        """Return what the score network is told of the noise level."""
        return sigma.clamp(min=1e-30).log(), p.ratio if self.config.in_noise else None

    def incremental(self, given: Tensor, order: Tensor | None = None) -> list[IncrementalContexts]:
        """Return one incremental context evaluation per stage, of examples given (B, G)."""
        return [stage.begin(given, order) for stage in self.networks]
