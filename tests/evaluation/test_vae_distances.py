"""Distances between what VAEs draw and images: what they need, and of which images they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation import vae_metrics as module
from arcsm_cli.evaluation.vae_metrics import check_metrics, vae_features
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.latent import sample_vae

Make = Callable[..., Any]


def test_distances_need_images_of_one_or_three_channels(random_vae: Make) -> None:
    with pytest.raises(UsageError, match="--metric fid"):
        check_metrics(random_vae().float(), Dataset("x", torch.zeros(4, 6)), ["fid"])
    two = random_vae(shape=(2, 1, 3)).float()
    with pytest.raises(UsageError, match="--metric kid"):
        check_metrics(two, Dataset("x", torch.zeros(4, 2, 1, 3)), ["kid"])


def test_distances_need_two_examples(random_vae: Make) -> None:
    vae = random_vae(shape=(1, 2, 3)).float()
    with pytest.raises(DamagedInputError, match="one example"):
        check_metrics(vae, Dataset("x", torch.zeros(1, 1, 2, 3)), ["fid"])
    check_metrics(vae, Dataset("x", torch.zeros(2, 1, 2, 3)), ["fid"])


def test_distances_are_of_as_many_means_as_there_are_examples(
    random_vae: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = random_vae(shape=(1, 2, 3)).float()
    data = Dataset("x", torch.rand(7, 1, 2, 3))
    seen: dict[str, Tensor] = {}

    def distances(extract: Any, samples: Any, examples: Any, **options: Any) -> dict[str, float]:
        seen.update(samples=torch.cat(list(samples)), examples=torch.cat(list(examples)))
        return {"fid": float(options["counts"] == (7, 7))}

    monkeypatch.setattr(module, "feature_distances", distances)
    found = vae_features(vae, data, lambda images: images, ["fid"], batch_size=3, seed=5)
    assert found == {"fid": 1.0}
    assert torch.equal(seen["examples"], data.values)
    expected = sample_vae(vae, SampleNoise(5, range(7)), denoise=True)
    assert torch.allclose(seen["samples"], expected, rtol=1e-5)
