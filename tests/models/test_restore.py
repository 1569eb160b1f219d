"""From a checkpoint's content to a model, sound or hostile."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.models import restore as module
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.restore import restore

CONFIG = ModelConfig(
    shape=(3,), levels=(1.0, 0.1), hidden=(4, 4), score_hidden=(4,), context_width=2
)
Change = Callable[[dict[str, Tensor]], Any]


def checkpoint(config: dict[str, Any] | None = None, kind: str = "ar-csm") -> Checkpoint:
    torch.manual_seed(0)
    tensors = {k: v.detach() for k, v in ARCSM(CONFIG).named_parameters()}
    return Checkpoint(kind, CONFIG.to_dict() if config is None else config, {}, [], tensors)


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes building a model an error of its own."""

    def build(config: ModelConfig) -> ARCSM:
        raise AssertionError("a model was built")

    monkeypatch.setattr(module, "make_model", build)


def test_a_restored_model_has_the_saved_weights() -> None:
    saved = checkpoint()
    restored = dict(restore(saved).named_parameters())
    assert restored.keys() == saved.tensors.keys()
    assert all(torch.equal(restored[k], v) for k, v in saved.tensors.items())


def test_a_restored_model_has_the_saved_settings() -> None:
    assert restore(checkpoint()).config == CONFIG


def test_a_restored_model_owns_its_weights() -> None:
    saved = checkpoint()
    model = restore(saved)
    for tensor in saved.tensors.values():
        tensor.zero_()
    assert all(p.abs().max() > 0 for n, p in model.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("kind", ["ar-mle", "vae"])
def test_a_model_of_another_kind_is_refused_by_name(kind: str) -> None:
    with pytest.raises(DamagedInputError, match=kind):
        restore(checkpoint(kind=kind))


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    "change",
    [
        {"hidden": [1 << 16, 1 << 16]},
        {"shape": [1 << 20]},
        {"hidden": [1 << 16] * 200, "residual": True},
        {"annealing": "staged", "levels": [1.0 - i / 100_000 for i in range(90_000)]},
        {"context_width": 1 << 16},
        {"score_hidden": [1 << 16, 1 << 16]},
    ],
    ids=lambda change: " ".join(change),
)
def test_a_small_file_cannot_claim_a_large_model(change: dict[str, Any]) -> None:
    with pytest.raises(DamagedInputError, match="weights"):
        restore(checkpoint(CONFIG.to_dict() | change))


def _transpose(tensors: dict[str, Tensor]) -> None:
    name = "stages.0.context.output.weight"
    tensors[name] = tensors[name].T.contiguous()


def _rename(tensors: dict[str, Tensor]) -> None:
    tensors["elsewhere"] = tensors.pop("stages.0.score.out.bias")


def _retype(tensors: dict[str, Tensor]) -> None:
    tensors["stages.0.score.out.bias"] = tensors["stages.0.score.out.bias"].double()


def _swap_shapes(tensors: dict[str, Tensor]) -> None:
    a, b = "stages.0.score.first_x", "stages.0.score.out.weight"
    tensors[a], tensors[b] = tensors[b], tensors[a]


@pytest.mark.parametrize("change", [_transpose, _rename, _retype, _swap_shapes])
def test_tensors_of_the_right_total_but_of_another_model_are_refused(change: Change) -> None:
    damaged = checkpoint()
    change(damaged.tensors)
    with pytest.raises(DamagedInputError, match="tensors"):
        restore(damaged)


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("stages.0.score.out.bias"),
        lambda t: t.update(more=torch.zeros(1)),
        lambda t: t.clear(),
    ],
    ids=["missing", "extra", "none"],
)
def test_missing_or_extra_weights_are_refused(change: Change) -> None:
    damaged = checkpoint()
    change(damaged.tensors)
    with pytest.raises(DamagedInputError, match="weights"):
        restore(damaged)
