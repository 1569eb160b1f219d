"""Checkpoints of VAEs, sound or hostile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint
from arcsm_cli.models import restore as restoring
from arcsm_cli.models.load import load_any, load_model
from arcsm_cli.models.restore import restore, restore_vae
from arcsm_cli.models.vae import VAE
from arcsm_cli.models.vae_config import VAEConfig

Make = Callable[..., Any]

CONFIG = VAEConfig(
    shape=(6,), latent_dim=2, hidden=(4, 5), context_width=2, score_hidden=(3,), particles=4
)


def checkpoint(config: dict[str, Any] | None = None, kind: str = "vae") -> Checkpoint:
    torch.manual_seed(0)
    tensors = {k: v.detach() for k, v in VAE(CONFIG).named_parameters()}
    return Checkpoint(kind, CONFIG.to_dict() if config is None else config, {}, [], tensors)


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes building a model an error of its own."""

    def build(config: Any) -> VAE:
        raise AssertionError("a model was built")

    monkeypatch.setattr(restoring, "make_model", build)


def test_a_restored_vae_has_the_saved_weights_and_settings() -> None:
    saved = checkpoint()
    vae = restore_vae(saved)
    restored = dict(vae.named_parameters())
    assert vae.config == CONFIG
    assert restored.keys() == saved.tensors.keys()
    assert all(torch.equal(restored[k], v) for k, v in saved.tensors.items())


def test_a_restored_vae_owns_its_weights() -> None:
    saved = checkpoint()
    vae = restore_vae(saved)
    for tensor in saved.tensors.values():
        tensor.zero_()
    assert all(p.abs().max() > 0 for n, p in vae.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("kind", ["ar-csm", "ar-mle"])
def test_a_model_of_another_kind_is_no_vae(kind: str) -> None:
    with pytest.raises(DamagedInputError, match=kind):
        restore_vae(checkpoint(kind=kind))


def test_a_vae_is_no_autoregressive_model() -> None:
    with pytest.raises(DamagedInputError, match="vae"):
        restore(checkpoint())


@pytest.mark.parametrize("kind", ["ar-csm", "ar-mle"])
def test_a_vaes_config_does_not_make_another_kind_of_model(kind: str) -> None:
    with pytest.raises(DamagedInputError):
        restore(checkpoint(kind=kind))


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    "change",
    [
        {"hidden": [1 << 14, 1 << 14]},
        {"shape": [1 << 20]},
        {"latent_dim": 1 << 10, "hidden": [1 << 14, 1 << 14], "context_width": 1 << 14},
        {"score_hidden": [1 << 14] * 16},
        {"method": "ssm", "hidden": [1 << 14, 1 << 14]},
        {"network": "conv", "channels": [1 << 14] * 5, "shape": [1, 256, 256]},
    ],
    ids=lambda change: " ".join(change),
)
def test_a_small_file_cannot_claim_a_large_vae(change: dict[str, Any]) -> None:
    with pytest.raises(DamagedInputError, match="weights"):
        restore_vae(checkpoint(CONFIG.to_dict() | change))


def _transpose(tensors: dict[str, Tensor]) -> None:
    name = "decoder.first.weight"
    tensors[name] = tensors[name].T.contiguous()


def _rename(tensors: dict[str, Tensor]) -> None:
    tensors["elsewhere"] = tensors.pop("scores.score.out.bias")


def _retype(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.bend"] = tensors["encoder.bend"].double()


def _swap(tensors: dict[str, Tensor]) -> None:
    # As many numbers in all, but of layers of other sizes.
    a, b = "decoder.first.bias", "decoder.second.bias"
    tensors[a], tensors[b] = tensors[b], tensors[a]


@pytest.mark.parametrize("change", [_transpose, _rename, _retype, _swap])
def test_tensors_of_the_right_total_but_of_another_model_are_refused(change: Make) -> None:
    damaged = checkpoint()
    change(damaged.tensors)
    with pytest.raises(DamagedInputError, match="tensors"):
        restore_vae(damaged)


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("scores.score.out.bias"),
        lambda t: t.update(more=torch.zeros(1)),
        lambda t: t.clear(),
    ],
    ids=["missing", "extra", "none"],
)
def test_missing_or_extra_weights_are_refused(change: Make) -> None:
    damaged = checkpoint()
    change(damaged.tensors)
    with pytest.raises(DamagedInputError, match="weights"):
        restore_vae(damaged)


def test_a_vae_is_loaded_from_its_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae.safetensors", checkpoint())
    found, vae = load_any(tmp_path / "vae.safetensors")
    assert isinstance(vae, VAE)
    assert (found.kind, vae.config) == ("vae", CONFIG)


def test_where_an_autoregressive_model_is_wanted_a_vae_is_refused_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae.safetensors", checkpoint())
    with pytest.raises(DamagedInputError, match=r"vae\.safetensors: holds a VAE") as refusal:
        load_model(tmp_path / "vae.safetensors")
    assert "\n" not in str(refusal.value)


def test_a_damaged_vae_is_refused_by_the_files_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae.safetensors", checkpoint(CONFIG.to_dict() | {"shape": [7]}))
    with pytest.raises(DamagedInputError, match=r"vae\.safetensors: .*weights"):
        load_any(tmp_path / "vae.safetensors")
