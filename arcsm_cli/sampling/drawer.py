"""Samples by their numbers, of a model of any kind: what a model, its options and a seed say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.vae import VAE
from arcsm_cli.models.vae_config import VAEConfig
from arcsm_cli.options import flag
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.given import Giving
from arcsm_cli.sampling.latent import sample_vae
from arcsm_cli.sampling.samplers import choose_sampler


class Drawer:
    """Draws samples; number i depends on the seed and i alone, up to rounding.

    Arguments:
        model: on the device to compute on.
        name: what messages call it.
        plan: what the samples are given.
        drawing: choices of `arcsm_cli.sampling.options.Drawing`, those made.
        seed: of all samples.
        denoise: give the expected clean value of each scalar; of a VAE the mean given the code.
        clip: clip images to [0, 1].
        known: (R, *shape), NaN for what is to be drawn: sample i completes row i, in turn.

    Raises:
        UsageError: choices that do not fit the model.
    """

    def __init__(
        self,
        model: AutoregressiveModel | VAE,
        name: str,
        plan: Giving,
        drawing: Mapping[str, Any],
        *,
        seed: int,
        denoise: bool = False,
        clip: bool = True,
        known: Tensor | None = None,
    ) -> None:
        self._draw: Callable[..., Tensor]
        if isinstance(model, VAE):
            for option in drawing:
                raise UsageError(f"{flag(option)} is for autoregressive models, {name} holds a VAE")
            self._draw = partial(sample_vae, model, denoise=denoise)
        else:
            if denoise and model.sigma_min == 0:
                raise UsageError("--denoise: the model was trained without noise")
            own = {key: value for key, value in drawing.items() if key != "sampler"}
            sampler = choose_sampler(model, drawing.get("sampler"), **own)
            self._draw = partial(sample, model, sampler, denoise=denoise)
        self._config = model.config
        self._device = next(model.parameters()).device
        self._name, self._plan, self._seed, self._known = name, plan, seed, known
        self._step_size = drawing.get("step_size")
        self._clip = clip and model.config.is_image

    def __call__(self, part: range, tick: Callable[[int], None] | None = None) -> Tensor:
        """Return the samples of these numbers, (B, *shape) in file units, on the CPU.

        Arguments:
            tick: called with how many dimensions of each have been drawn since.

        Raises:
            UsageError, DamagedInputError: values overflow, by the step or by the weights.
        """
        told: dict[str, Tensor | None] = {}
        if not isinstance(self._config, VAEConfig) and self._config.given:
            told["given"] = self._plan.rows(part).given
        if self._known is not None:
            told["known"] = self._known[[i % len(self._known) for i in part]]
        noise = SampleNoise(self._seed, part, self._device)
        drawn = self._draw(noise, tick=tick, **told).cpu()
        if not drawn.isfinite().all():
            if self._step_size is not None:
                raise UsageError(f"--step-size {self._step_size}: too large, samples overflow")
            raise DamagedInputError(f"{self._name}: the model's samples are not finite")
        return drawn.clamp_(0, 1) if self._clip else drawn
