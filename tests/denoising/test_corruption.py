"""Corruptions: the asked noise, the same for an example whatever is beside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.denoising.corruption import Corruption, Gaussian, Mask, SaltPepper
from arcsm_cli.randomness import SampleNoise

KINDS = [Gaussian(0.6, 0.5), SaltPepper(0.3), Mask(torch.eye(8, dtype=torch.bool))]


@pytest.mark.parametrize("corruption", KINDS, ids=lambda k: type(k).__name__)
@given(cut=st.integers(1, 6), seed=st.integers(0, 2**63))
def test_examples_are_corrupted_alike_in_any_batch(
    corruption: Corruption, cut: int, seed: int
) -> None:
    x = torch.rand(7, 1, 8, 8)
    whole = corruption(x, SampleNoise(seed, range(7)))
    parts = [
        corruption(x[:cut], SampleNoise(seed, range(cut))),
        corruption(x[cut:], SampleNoise(seed, range(cut, 7))),
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_normal_noise_has_the_asked_deviation_in_the_models_scale() -> None:
    noise = Gaussian(0.6, 0.5)(torch.zeros(40, 1, 28, 28), SampleNoise(0, range(40)))
    assert float((2 * noise).std()) == pytest.approx(0.6, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)


def test_each_variable_may_have_a_unit_of_its_own() -> None:
    scale = torch.tensor([1.0, 10.0])
    noise = Gaussian(0.5, scale)(torch.zeros(5000, 2), SampleNoise(0, range(5000)))
    assert torch.allclose(noise.std(0), 0.5 * scale, rtol=0.05)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_salt_and_pepper_strike_as_often_as_asked_and_equally(p: float) -> None:
    x = torch.full((40, 1, 28, 28), 0.5)
    y = SaltPepper(p)(x, SampleNoise(0, range(40)))
    error = 4 / math.sqrt(y.numel())
    assert float((y == 0).float().mean()) == pytest.approx(p / 2, abs=error)
    assert float((y == 1).float().mean()) == pytest.approx(p / 2, abs=error)
    assert ((y == 0.5) | (y == 0) | (y == 1)).all()


def test_a_colour_pixel_is_struck_as_a_whole() -> None:
    x = torch.full((5, 3, 8, 8), 0.5)
    y = SaltPepper(0.4)(x, SampleNoise(0, range(5)))
    assert (y == y[:, :1]).all()
    assert 0 < (y != x).float().mean() < 1


def test_a_mask_hides_and_keeps_exactly() -> None:
    hidden = torch.rand(3, 4, 4) < 0.5
    x = torch.rand(2, 3, 4, 4) + 0.1
    y = Mask(hidden)(x, SampleNoise(0, range(2)))
    assert (y[:, hidden] == 0).all()
    assert torch.equal(y[:, ~hidden], x[:, ~hidden])
