"""How AR-CSMs and likelihood-trained models are trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.randomness import Purpose, SampleNoise, generator_for
from arcsm_cli.registry import OBJECTIVES
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState
from arcsm_cli.training.task import validation_batches

Objective = Callable[[Any, NoisyBatch], Tensor]


class AutoregressiveTask:
    """See `arcsm_cli.training.task.Task`; a stage a noise level where annealing is staged."""

    def curves(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of what a step reports."""
        return ("loss",)

    def betas(self) -> tuple[float, float]:
        """Return Adam's decay rates."""
        return 0.9, 0.99

    def groups(self, model: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
        """Return one group of all weights; those without gradient (other stages') stay as is."""
        return [{"params": list(model.parameters())}]

    def stages(self, model: AutoregressiveModel) -> int:
        """Return how many stages a run has."""
        return len(model.stages)

    def trained(self, model: nn.Module, stage: int) -> list[str]:
        """Return the names of the weights that a stage trains."""
        return [n for n, _ in model.named_parameters() if n.startswith(f"stages.{stage}.")]

    def begin(self, state: TrainState, stage: int) -> None:
        """Start a stage from the averaged weights of the one before (its noise is the nearest)."""
        weights = dict(state.model.named_parameters())
        with torch.no_grad():
            for name in self.trained(state.model, stage):
                before = name.replace(f"stages.{stage}.", f"stages.{stage - 1}.", 1)
                weights[name].copy_(state.average[before])
                state.average[name].copy_(state.average[before])

    def gradient(self, state: TrainState, x: Tensor, stage: int) -> list[Tensor]:
        """Add the gradient of the loss per dimension to the weights'; return the loss.

        Every rank draws the noise of the whole batch, which costs little, and computes its part.
        """
        model, settings = state.model, state.settings
        model.low_precision = settings.precision == "bf16"
        generator = generator_for(settings.seed, Purpose.NOISE, state.step, x.device)
        batch = perturb(
            model, model.sort(x), generator, level=_level(model, stage), draws=settings.draws
        )
        if state.step == 0:
            state.initialise(batch.context_input)
        objective: Objective = OBJECTIVES[settings.objective]
        return [_gradient(state, _compiled(objective) if settings.compile else objective, batch)]

    @torch.no_grad()
    def validation_loss(self, state: TrainState, valid: Dataset, stage: int) -> float:
        """Return the objective per dimension of the averaged weights on held-out data.

        The same examples and noise every time, so that curves show the model and not the draw.
        """
        model = state.averaged_model()
        objective = OBJECTIVES[state.settings.objective]
        device = model.mean.device
        generator = generator_for(state.settings.seed, Purpose.VALIDATION, 0, device)
        total, count = 0.0, 0
        for x in validation_batches(state, valid):
            rows = model.sort(x.to(device))
            batch = perturb(model, rows, generator, level=_level(model, stage))
            part = state.ranks.part(len(x))
            if (own := part.stop - part.start) > 0:
                total += float(objective(model, batch.rows(part))) * own
            count += len(x)
        dimensions: int = model.config.dimensions
        shared = state.ranks.total(torch.tensor(total, dtype=torch.float64))
        return float(shared) / count / dimensions

    def pictures(self, state: TrainState, count: int) -> Tensor | None:
        """Return images that the averaged weights draw, or None for vectors."""
        model = state.averaged_model()
        if not model.config.is_image:
            return None
        noise = SampleNoise(state.settings.seed, range(count), model.mean.device)
        return sample(model, default_sampler(model), noise, denoise=model.sigma_min > 0)


@functools.cache
def _compiled(objective: Objective) -> Objective:
    """Return an objective compiled, once a process."""
    compiled: Objective = torch.compile(objective)
    return compiled


def _gradient(state: TrainState, objective: Objective, batch: NoisyBatch) -> Tensor:
    """Add the gradient of the loss per dimension to the weights'; return the loss."""
    rows, dimensions = batch.context_input.shape
    settings, device, ranks = state.settings, batch.context_input.device, state.ranks
    total = torch.zeros((), device=device)
    own = range(rows)[ranks.part(rows)]
    parts = torch.arange(own.start, own.stop).chunk(settings.grad_accumulation)
    # Dropout draws from the process's generator: address it, and leave no trace. Ranks draw apart.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        index = state.step * ranks.size + ranks.rank
        torch.manual_seed(generator_for(settings.seed, Purpose.DROPOUT, index).initial_seed())
        for i, part in enumerate(parts):
            some = batch.rows(slice(int(part[0]), int(part[-1]) + 1))
            share = len(part) / rows / dimensions
            loss = state.evaluate(
                functools.partial(objective, state.model, some), last=i + 1 == len(parts)
            )
            loss = loss * (share * ranks.size)  # gradients become the mean over ranks
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / ranks.size
    return total


def _level(model: AutoregressiveModel, stage: int) -> int:
    return stage if len(model.stages) > 1 else -1
