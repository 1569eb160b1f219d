"""Samples of a VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.latent import sample_vae

Make = Callable[..., Any]
SCALED: dict[str, Any] = {
    "shape": (1, 2, 3),
    "decoder": "gaussian",
    "data_shift": (0.5,),
    "data_scale": (0.5,),
}


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("config", [{}, SCALED], ids=["binary", "continuous"])
def test_a_sample_depends_on_the_seed_and_its_number_alone(
    random_vae: Make, config: dict[str, Any], denoise: bool
) -> None:
    vae = random_vae(**config).float()
    whole = sample_vae(vae, SampleNoise(3, range(5)), denoise=denoise)
    for i in range(5):
        alone = sample_vae(vae, SampleNoise(3, [i]), denoise=denoise)[0]
        assert torch.allclose(alone, whole[i], atol=1e-5)
    assert not torch.equal(sample_vae(vae, SampleNoise(4, range(5)), denoise=denoise), whole)


def test_samples_have_the_shape_and_scale_of_files(random_vae: Make) -> None:
    vae = random_vae(**SCALED).float()
    z = SampleNoise(0, range(2)).normal(3)
    found = sample_vae(vae, SampleNoise(0, range(2)), denoise=True)
    assert found.shape == (2, 1, 2, 3)
    assert torch.allclose(found.flatten(1), 0.5 + 0.5 * vae.decoder(z))


def test_codes_are_drawn_from_the_prior_and_stay_those_when_denoised(random_vae: Make) -> None:
    vae = random_vae().float()
    mean = sample_vae(vae, SampleNoise(0, range(4)), denoise=True)
    noise = SampleNoise(0, range(4))
    z, pixels = noise.normal(3), noise.normal(6)
    assert torch.equal(mean, vae.mean(z))
    assert torch.equal(sample_vae(vae, SampleNoise(0, range(4))), vae.observe(z, pixels))


def test_samples_of_binary_data_are_binary_and_their_means_are_not(random_vae: Make) -> None:
    vae = random_vae().float()
    assert set(sample_vae(vae, SampleNoise(0, range(9))).unique().tolist()) == {0.0, 1.0}
    mean = sample_vae(vae, SampleNoise(0, range(9)), denoise=True)
    assert ((mean > 0) & (mean < 1)).all()


def test_samples_scatter_around_the_mean_of_their_code_by_the_learned_deviation(
    random_vae: Make,
) -> None:
    vae = random_vae(**SCALED).float()
    drawn, mean = (sample_vae(vae, SampleNoise(0, range(3000)), denoise=d) for d in (False, True))
    deviation = 0.5 * float(vae.log_sd.detach().exp())
    assert float((drawn - mean).std()) == pytest.approx(deviation, rel=0.03)


def test_progress_is_in_dimensions(random_vae: Make) -> None:
    seen: list[int] = []
    sample_vae(random_vae().float(), SampleNoise(0, range(2)), tick=seen.append)
    assert sum(seen) == 6


def test_samples_carry_no_graph(random_vae: Make) -> None:
    assert not sample_vae(random_vae().float(), SampleNoise(0, range(2))).requires_grad
