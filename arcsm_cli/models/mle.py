"""Autoregressive models with normalised conditionals, trained by maximum likelihood.

The counterparts of the AR-CSM in the paper's comparisons: the same context networks, whose outputs
are the parameters of each conditional density (`heads`) instead of an input to a score network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.any_order import visits
from arcsm_cli.models.base import AutoregressiveModel, Stage
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.heads import Head, make_head


class HeadStage(Stage):
    """A context network and the head that reads it, which may have weights of its own."""

    head: Head

    def __init__(self, config: ModelConfig, mean: Tensor, sd: Tensor) -> None:
        super().__init__(config, mean, sd)
        self.head = make_head(config)


class ARMLE(AutoregressiveModel):
    """D conditional densities p(x_d | x_1..x_{d-1}) with parameters from a context network.

    With a noise level, the density of data plus that noise; without, of the data. All methods work
    on sorted examples, as those of `AutoregressiveModel`.

    Example:
        >>> config = ModelConfig(
        ...     shape=(4,), levels=(0.1,), annealing="none", hidden=(8,),
        ...     likelihood="gaussian", context_width=2)
        >>> ARMLE(config).log_prob(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    kind = "ar-mle"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        stage = HeadStage(config, self.mean, self.sd)
        start = stage.head.start()
        if start is not None:
            stage.context.start_at(start)
        self.stages = nn.ModuleList([stage])

    @property
    def head(self) -> Head:
        """The family of the conditionals."""
        stage = self.stages[0]
        assert isinstance(stage, HeadStage)
        return stage.head

    def sort(self, x: Tensor) -> Tensor:
        """Map examples in file units to sorted ones; 8-bit densities take the nearest level."""
        if self.head.discrete:
            x = (x * 255).round() / 255
        return super().sort(x)

    def log_prob(self, batch: Batch | Tensor) -> Tensor:
        """Return log p(x_d | x_<d) of sorted examples (B, D), (B, D), in nats.

        Of 8-bit values if the head is discrete, else a density in the model's scale.
        """
        batch = Batch.of(batch)
        sites = self._standardised(batch.x).view(batch.size, -1, self.head.site)
        log_p = self.head.log_prob(self.contexts(batch), sites).flatten(1)
        return log_p - self.sd.log()

    def _standardised(self, x: Tensor, dims: slice | Tensor = slice(None)) -> Tensor:
        return (x - self.mean[dims]) / self.sd[dims]

    def walk(self, given: Tensor, order: Tensor | None = None) -> MLEWalk:
        """Start B examples, of which ``given`` (B, G) is known; see `MLEWalk`."""
        return MLEWalk(self, given, order)


class Drawable:
    """N conditional densities of one dimension: what ancestral sampling works on.

    Arguments:
        model: the model.
        parameters: (N, P), of the dimension's site.
        earlier: (N, k), the site's values before this one, sorted scale.
        d: the dimension, or one for each row, (N,).
    """

    def __init__(self, model: ARMLE, parameters: Tensor, earlier: Tensor, d: int | Tensor) -> None:
        self.model, self.parameters, self.earlier, self.d = model, parameters, earlier, d

    def _before(self, count: int) -> Tensor:
        """Return which dimensions the first values of the site are, (count,) or (N, count)."""
        first = self.d - self.earlier.shape[1]
        places = torch.arange(count, device=self.earlier.device)
        return places + (first[:, None] if isinstance(first, Tensor) else first)

    @property
    def draws(self) -> int:
        """Standard normals that drawing a value takes."""
        return self.model.head.draws

    def draw(self, z: Tensor) -> Tensor:
        """Draw a value for each row from standard normals (N, draws); returns (N,)."""
        earlier = self.model._standardised(self.earlier, self._before(self.earlier.shape[1]))
        value = self.model.head.draw(self.parameters, earlier, z)
        return value * self.model.sd[self.d] + self.model.mean[self.d]

    def denoised(self, x: Tensor) -> Tensor:
        """Return E[clean value | x] (N,) by Tweedie's formula, x + sigma^2 d/dx log p(x)."""
        sigma = self.model.sigma_min
        if sigma == 0:
            return x
        with torch.enable_grad():
            value = x.detach().requires_grad_()
            site = torch.cat([self.earlier, value[:, None]], 1)
            # Values after this one do not change its own conditional.
            missing = self.model.head.site - site.shape[1]
            filled = nn.functional.pad(
                self.model._standardised(site, self._before(site.shape[1])), (0, missing)
            )
            log_p = self.model.head.log_prob(self.parameters, filled)[:, site.shape[1] - 1]
            (score,) = torch.autograd.grad(log_p.sum(), value)
        return x + sigma**2 * score


class MLEWalk:
    """A batch of examples in the making; see `arcsm_cli.sampling.draw.Walk`.

    Arguments:
        given: (B, G).
        order: (B, P), in which the examples visit their places; None for the model's own.
    """

    def __init__(self, model: ARMLE, given: Tensor, order: Tensor | None = None) -> None:
        self.model = model
        self.state = model.networks[0].begin(given, order)
        self.dims = visits(order, model.config.dimensions)
        self.earlier = model.mean.new_empty(len(given), 0)
        self.d = 0

    def conditionals(self) -> Drawable:
        """Return the next dimension's densities."""
        return Drawable(self.model, self.state.contexts(), self.earlier, self.dims[self.d])

    def append(self, x: Tensor) -> None:
        """Fix the next dimension's values (B,) and move on."""
        self.state.append(x)
        self.d += 1
        self.earlier = torch.cat([self.earlier, x[:, None]], 1)
        if self.earlier.shape[1] == self.model.head.site:
            self.earlier = self.earlier[:, :0]
