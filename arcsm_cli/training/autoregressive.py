"""How AR-CSMs and likelihood-trained models are trained."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Generator, Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Rows, as_float
from arcsm_cli.data.eight_bit import dequantized
from arcsm_cli.data.given import classes, labelled
from arcsm_cli.models.any_order import random_orders
from arcsm_cli.models.architecture import ANY
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.fused import keep_from_compilers
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.randomness import Purpose, SampleNoise, generator_for
from arcsm_cli.registry import OBJECTIVES
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.task import Objective, Task

_FRAME_EXAMPLES, _FRAME_EXAMPLES_A_DIMENSION = 20_000, 10
"""How many examples frames are fitted to: the larger number, if there are so many."""


class AutoregressiveTask(Task):
    """Models of one dimension after another; a stage a noise level where annealing is staged."""

    def groups(self, model: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
        """Return one group of all weights; those without gradient (other stages') stay as is."""
        return [{"params": list(model.parameters())}]

    def stages(self, model: AutoregressiveModel) -> int:
        """Return how many stages a run has."""
        return len(model.stages)

    def trained(self, model: nn.Module, stage: int) -> list[str]:
        """Return the names of the weights that a stage trains."""
        return [n for n, _ in model.named_parameters() if n.startswith(f"stages.{stage}.")]

    def begin(self, model: AutoregressiveModel, average: dict[str, Tensor], stage: int) -> None:
        """Start a stage from the averaged weights of the one before (its noise is the nearest)."""
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name in self.trained(model, stage):
                before = name.replace(f"stages.{stage}.", f"stages.{stage - 1}.", 1)
                weights[name].copy_(average[before])
                average[name].copy_(average[before])

    def objective(self, settings: TrainSettings, *, training: bool) -> Objective:
        """Return the objective that the settings name."""
        objective: Objective = OBJECTIVES[settings.objective]
        return _compiled(objective) if settings.compile and training else objective

    def prepare(
        self,
        model: AutoregressiveModel,
        batch: Batch,
        generator: Generator,
        settings: TrainSettings,
        stage: int,
        *,
        training: bool,
    ) -> NoisyBatch:
        """Return sorted examples with the stage's noise and, for models of any order, orders."""
        level = stage if len(model.stages) > 1 else -1
        draws = settings.draws if training else 1
        x = batch.x
        if settings.dequantize == "uniform":
            x = dequantized(x, torch.rand(x.shape, generator=generator, device=x.device))
        rows = batch.holding(model.sort(x))
        found = perturb(model, rows, generator, level=level, draws=draws)
        if model.config.order != ANY:
            return found
        orders = random_orders(model.config.shape, batch.size, generator)
        return found._replace(context_input=found.context_input._replace(order=orders))

    @torch.no_grad()
    def fit(
        self,
        model: AutoregressiveModel,
        data: Rows,
        prepared: NoisyBatch,
        settings: TrainSettings,
    ) -> bool:
        """Fit frames to many examples, then weights to what contexts are computed from."""
        if model.config.has_frames:
            most = max(_FRAME_EXAMPLES, _FRAME_EXAMPLES_A_DIMENSION * model.config.dimensions)
            generator = generator_for(settings.seed, Purpose.FRAMES, 0)
            rows = torch.randperm(len(data), generator=generator)[:most]
            chosen = data.stored(rows).to(model.mean.device)
            model.fit_frames(chosen.holding(model.sort(as_float(chosen.x))))
        return model.initialise(prepared.context_input) or model.config.has_frames

    def unit(self, model: AutoregressiveModel) -> int:
        """Return D."""
        return model.config.dimensions

    def noisy(self, model: AutoregressiveModel) -> bool:
        """Return whether there is noise at all."""
        return bool(model.config.levels[0] > 0)

    def pictures(self, model: AutoregressiveModel, seed: int, count: int) -> Tensor | None:
        return pictures_of(model, seed, count)


def pictures_of(model: AutoregressiveModel, seed: int, count: int) -> Tensor | None:
    """Return images (count, C, H, W) without noise, or None for vectors."""
    if not model.config.is_image:
        return None
    noise = SampleNoise(seed, range(count), model.mean.device)
    # Images are given nothing, or their labels: these are taken in turn.
    known = classes(model.config.given)
    given = labelled(known, torch.arange(count) % known.features) if known else None
    return sample(model, default_sampler(model), noise, given=given, denoise=model.sigma_min > 0)


@functools.cache
def _compiled(objective: Objective) -> Objective:
    """Return an objective compiled, once a process."""
    keep_from_compilers()
    compiled: Objective = torch.compile(objective)
    return compiled
