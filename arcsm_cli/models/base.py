"""What all models here share: data in and out, noise levels, stages of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import feature_count
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.context import AnyOrderContexts, ContextNetwork, IncrementalContexts
from arcsm_cli.models.frames import FramedContexts
from arcsm_cli.models.order import variable_order
from arcsm_cli.models.units import FileUnits
from arcsm_cli.registry import CONTEXTS


class Stage(nn.Module):
    """The networks of one noise level, or of all: a context network and what reads it."""

    context: ContextNetwork

    def __init__(self, config: ModelConfig, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.context = context_network(config.of_contexts())
        if config.has_frames:
            linear = config.frames == "linear"
            features = feature_count(config.given)
            self.context = FramedContexts(self.context, mean, sd, linear=linear, features=features)

    def begin(self, given: Tensor, order: Tensor | None = None) -> IncrementalContexts:
        """Return an incremental context evaluation of B examples.

        Arguments:
            given: (B, G).
            order: (B, P), of a model of any order; None for the model's own.
        """
        if order is None:
            return self.context.incremental(given)
        assert isinstance(self.context, AnyOrderContexts)
        return self.context.visiting(given, order)


class AutoregressiveModel(nn.Module):
    """D univariate conditionals of noisy data, with shared networks.

    All methods work on *sorted* examples: flat, in the model's scale and variable order; `sort` and
    `unsort` convert. Noise levels are in the model's scale.

    Arguments:
        config: the settings; see `ModelConfig`.

    Raises:
        ValueError: the configuration cannot be used.
    """

    kind: ClassVar[str]
    """What checkpoints call the model."""

    order: Tensor
    mean: Tensor
    sd: Tensor
    stages: nn.ModuleList

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        problem = config.problem()
        if problem:
            raise ValueError(problem)
        self.config = config
        # Run the context network's matrix products in bfloat16; scores and densities never are.
        self.low_precision = False
        order = variable_order(config.order, config.shape, config.order_seed)
        self.register_buffer("order", order, persistent=False)
        self.units = FileUnits(config.data_shift, config.data_scale, config.dimensions)
        for name in ("mean", "sd"):
            # Preconditioning is settings, not weights: it lives in the config.
            values = torch.tensor(getattr(config, name)).expand(config.dimensions)[order]
            self.register_buffer(name, values.clone(), persistent=False)

    @property
    def levels(self) -> tuple[float, ...]:
        """Noise standard deviations, largest first."""
        return self.config.levels

    @property
    def sigma_min(self) -> float:
        """The last level: noise of the context input and of the density that is modelled."""
        return self.config.levels[-1]

    @property
    def networks(self) -> Sequence[Stage]:
        """The stages as a plain list: one, or one a noise level."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def sort(self, x: Tensor) -> Tensor:
        """Map examples in file units, (B, *shape), to sorted ones, (B, D), on the model's device.

        Examples may be float64, and lie elsewhere; see `FileUnits`.
        """
        return self.units.to_model(x.flatten(1), self.mean.dtype).to(self.mean.device)[
            :, self.order
        ]

    def unsort(self, x: Tensor) -> Tensor:
        """Map sorted examples (B, D) back to file units and shape, (B, *shape).

        They are float64 where float32 does not carry such values; see `FileUnits.to_file`.
        """
        y = torch.empty_like(x)
        y[:, self.order] = x
        return self.units.to_file(y).view(-1, *self.config.shape)

    def contexts(self, batch: Batch | Tensor, level: int = -1) -> Tensor:
        """Return all contexts (B, D / S, C) of sorted examples (B, D) in one pass."""
        batch = Batch.of(batch)
        stage = self.networks[level if len(self.stages) > 1 else 0]
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self.low_precision):
            contexts: Tensor = stage.context(batch)
        return contexts.to(batch.x.dtype)

    def initialise(self, batch: Batch | Tensor) -> bool:
        """Fit the initial weights to noisy sorted examples (B, D); whether any were changed."""
        batch = Batch.of(batch)
        return any([stage.context.initialise(batch) for stage in self.networks])

    def fit_frames(self, batch: Batch | Tensor) -> bool:
        """Find where frames start from sorted examples (N, D); whether there was anything to."""
        batch = Batch.of(batch)
        framed = [s.context for s in self.networks if isinstance(s.context, FramedContexts)]
        for context in framed:
            context.fit(batch, self.sigma_min)
        return bool(framed)


def context_network(config: ModelConfig) -> ContextNetwork:
    """Return the context network that a configuration names, with fresh weights."""
    kind: type[ContextNetwork] = CONTEXTS[config.context]
    network = kind.build(config)
    if config.given:
        network.condition_on(feature_count(config.given), kind.shifted_units(config))
    return network
