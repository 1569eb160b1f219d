"""How variational autoencoders are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.vae import VAE
from arcsm_cli.objectives.vae import VAELosses, vae_losses
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.latent import sample_vae
from arcsm_cli.training.settings import VAESettings
from arcsm_cli.training.task import Objective, Task


class VAETask(Task):
    """The model and its score estimator in one step; losses are in nats an example."""

    betas = (0.0, 0.99)
    """Adam without momentum is RMSprop, with its bias corrected."""

    def curves(self, model: VAE) -> tuple[str, ...]:
        """Return the names of the model's loss and of its estimator's, if it has one."""
        return ("loss",) if model.scores is None else ("loss", "score_loss")

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

    def objective(self, settings: VAESettings, *, training: bool) -> Objective:
        """Return the losses of the model's method and of its score estimator, in one."""
        return vae_losses

    def prepare(
        self,
        model: VAE,
        batch: Batch,
        generator: Generator,
        settings: VAESettings,
        stage: int,
        *,
        training: bool,
    ) -> Batch:
        """Return examples as the model sees them: binary ones are drawn afresh."""
        return batch.holding(binarised(model, model.flatten(batch.x), generator))

    def figures(self, loss: VAELosses) -> tuple[Tensor, ...]:
        """Return both losses in one, then each."""
        return tuple(figure for figure in loss if figure is not None)

    def noisy(self, model: VAE) -> bool:
        """Return that codes are drawn."""
        return True

    def pictures(self, model: VAE, seed: int, count: int) -> Tensor | None:
        """Return the means of images from the prior, or None for vectors."""
        if not model.config.is_image:
            return None
        noise = SampleNoise(seed, range(count), model.device)
        pictures: Tensor = sample_vae(model, noise, denoise=True)
        return pictures


def binarised(vae: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return 0 or 1 with probability x where the decoder is Bernoulli, else x (B, D) itself."""
    if not vae.is_binary:
        return x
    return torch.rand(x.shape, generator=generator, device=x.device).lt(x).to(x.dtype)
