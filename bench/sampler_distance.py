"""How far each sampler's samples are from held-out data: what a faster sampler must not lose."""

from __future__ import annotations

from dataclasses import replace

import torch

from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.evaluation.sample_metrics import energy_distance
from arcsm_cli.models.architecture import Quantiles
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import choose_sampler
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import Distilling, TrainSettings
from arcsm_cli.training.silent import Follower, train_silently
from arcsm_cli.training.teaching import learnt_from

STEPS, SAMPLES, SEEDS = 1500, 500, 3


def digits_model() -> ARCSM:
    """A model of the digits with three noise levels, trained for under a minute."""
    data = load_data("digits", DataOptions(), default_split="train")
    choices = Choices(sigma_min=0.1, levels=3, hidden=(256, 256))
    settings = TrainSettings(
        steps=STEPS, lr=1e-3, validate_every=STEPS, checkpoint_every=STEPS, objective="dsm"
    )
    model: ARCSM = train_silently(model_config(data, choices), settings, data, "cpu")
    return model


def distilled(model: ARCSM) -> ARCSM:
    """The same model as `arcsm distill` makes it by default."""
    config = replace(model.config, quantiles=Quantiles())
    settings = Distilling().about(dimensions=config.dimensions).settings()
    state = fresh_state(config, settings, "cpu", model.state_dict())
    table, held_out, _ = learnt_from(model, settings, "digits")
    train(state, table, held_out, Follower())
    fast: ARCSM = state.averaged_model()
    return fast


def report() -> None:
    """Print the energy distance of each sampler's samples to held-out digits, as comment lines."""
    model = digits_model()
    held_out = load_data("digits", DataOptions(), default_split="test")
    clean = held_out.take(torch.arange(len(held_out)))
    # [-1, 1] has twice the scale of [0, 1]; samples carry the last level's noise too.
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    y = clean + 0.5 * model.sigma_min * noise
    print("#   digits, samples against held-out data, mean and deviation over seeds:")
    fast = distilled(model)
    cases = (("langevin", 20), ("ode", 5), ("ode", 16), ("quantile", None))
    for name, steps in cases:
        sampler = choose_sampler(fast, name, steps=steps)
        distances = torch.tensor(
            [
                energy_distance(sample(fast, sampler, SampleNoise(seed, range(SAMPLES))), y)
                for seed in range(SEEDS)
            ]
        )
        mean, spread = float(distances.mean()), float(distances.std())
        print(
            f"#   {name}, {f'{steps} steps' if steps else 'distilled'}: "
            f"energy distance {mean:.4f} +- {spread:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    report()
