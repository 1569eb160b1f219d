"""How variational autoencoders are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.models.vae import VAE
from arcsm_cli.objectives.draws import Draws
from arcsm_cli.objectives.vae import vae_losses
from arcsm_cli.randomness import Purpose, SampleNoise, generator_for
from arcsm_cli.sampling.latent import sample_vae
from arcsm_cli.training.settings import VAESettings
from arcsm_cli.training.state import TrainState
from arcsm_cli.training.task import validation_batches


class VAETask:
    """See `arcsm_cli.training.task.Task`; the model and its score estimator in one step."""

    def curves(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of what a step reports."""
        assert isinstance(model, VAE)
        return ("loss",) if model.scores is None else ("loss", "score_loss")

    def betas(self) -> tuple[float, float]:
        """Return Adam's decay rates: without momentum it is RMSprop, with its bias corrected."""
        return 0.0, 0.99

    def groups(self, model: nn.Module, settings: VAESettings) -> list[dict[str, Any]]:
        """Return the model's weights and, with a rate of their own, the estimator's."""
        model_weights: list[Tensor] = []
        estimator: list[Tensor] = []
        for name, weight in model.named_parameters():
            (estimator if name.startswith("scores.") else model_weights).append(weight)
        groups: list[dict[str, Any]] = [{"params": model_weights}]
        if estimator:
            groups.append({"params": estimator, "rate": settings.score_lr / settings.lr})
        return groups

    def stages(self, model: nn.Module) -> int:
        """Return that there is one."""
        return 1

    def trained(self, model: nn.Module, stage: int) -> list[str]:
        """Return the names of all weights."""
        return [name for name, _ in model.named_parameters()]

    def begin(self, state: TrainState, stage: int) -> None:
        """Do nothing: there is one stage."""

    def gradient(self, state: TrainState, x: Tensor, stage: int) -> list[Tensor]:
        """Add the gradients of both losses, binary data drawn afresh; return their values."""
        model, settings, ranks = state.model, state.settings, state.ranks
        generator = generator_for(settings.seed, Purpose.NOISE, state.step, x.device)
        rows = binarised(model, model.flatten(x), generator)
        part = ranks.part(len(rows))
        draws = Draws(generator, len(rows), part)
        losses = state.evaluate(lambda: vae_losses(model, rows[part], draws))
        share = (part.stop - part.start) / len(rows)
        # The gradient is the mean over ranks, whose parts may differ by an example.
        (losses.total * (share * ranks.size)).backward()
        reported = [losses.loss] + ([] if losses.score_loss is None else [losses.score_loss])
        return [loss * share for loss in reported]

    def validation_loss(self, state: TrainState, valid: Dataset, stage: int) -> float:
        """Return the loss of the averaged weights on held-out data."""
        model = state.averaged_model()
        device = model.data_scale.device
        generator = generator_for(state.settings.seed, Purpose.VALIDATION, 0, device)
        total, count = 0.0, 0
        for x in validation_batches(state, valid):
            rows = binarised(model, model.flatten(x.to(device)), generator)
            part = state.ranks.part(len(rows))
            draws = Draws(generator, len(rows), part)
            if (own := part.stop - part.start) > 0:
                total += float(vae_losses(model, rows[part], draws).loss) * own
            count += len(x)
        shared = state.ranks.total(torch.tensor(total, dtype=torch.float64))
        return float(shared) / count

    def pictures(self, state: TrainState, count: int) -> Tensor | None:
        """Return the means of images from the prior, or None for vectors."""
        model = state.averaged_model()
        if not model.config.is_image:
            return None
        noise = SampleNoise(state.settings.seed, range(count), model.data_scale.device)
        pictures: Tensor = sample_vae(model, noise, denoise=True)
        return pictures


def binarised(vae: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return 0 or 1 with probability x where the decoder is Bernoulli, else x (B, D) itself."""
    if not vae.is_binary:
        return x
    return torch.rand(x.shape, generator=generator, device=x.device).lt(x).to(x.dtype)
