"""Models, training and samples on a device other than the one that the rest of the suite uses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Condition
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import default_sampler
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.silent import Follower

IMAGES = torch.randint(0, 256, (64, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
VECTORS = torch.randn(64, 5, generator=torch.Generator().manual_seed(1)).cumsum(1)

FAR = VECTORS.double() + 1e9  # what single precision does not carry
SMALL = {"layers": 1, "heads": 2, "width": 8}
LABELS = (Condition("labels", ("0", "1"), (32, 32)),)
GIVEN = functional.one_hot(torch.arange(64) % 2).float()

# Data, what `Choices` says of the model, what `TrainSettings` says of the run.
KINDS: dict[str, tuple[Tensor, dict[str, Any], dict[str, Any]]] = {
    "csm": (IMAGES, {"hidden": (16,)}, {}),
    "csm without variate": (IMAGES, {"hidden": (16,)}, {"control_variate": "none"}),
    "csm, columns": (VECTORS, {"hidden": (16,), "standardize": True}, {"draws": 2}),
    "csm, far columns": (FAR, {"hidden": (16,), "standardize": True}, {}),
    "csm, given labels": (VECTORS, {"hidden": (16,)}, {}),
    "transformer": (IMAGES, {"context": "transformer", **SMALL}, {}),
    "transformer, any order": (IMAGES, {"context": "transformer", "order": "any", **SMALL}, {}),
    "csm, frames": (VECTORS, {"hidden": (16,), "frames": "linear"}, {}),
    "dsm": (VECTORS, {"hidden": (16,)}, {"objective": "dsm"}),
    "ssm": (VECTORS, {"hidden": (16,)}, {"objective": "ssm"}),
    "staged": (IMAGES, {"hidden": (16,), "annealing": "staged", "levels": 2}, {}),
    "mle": (VECTORS, {"hidden": (16,), "objective": "mle"}, {"objective": "mle"}),
    "pixelcnn": (
        IMAGES,
        {"context": "pixelcnn", "filters": 4, "resnet_blocks": 1, "dropout": 0.0},
        {},
    ),
    "pixelcnn, mle": (
        IMAGES,
        {
            "context": "pixelcnn",
            "filters": 4,
            "resnet_blocks": 1,
            "dropout": 0.0,
            "objective": "mle",
        },
        {"objective": "mle"},
    ),
}
each = pytest.mark.parametrize("name", KINDS)
pytestmark = pytest.mark.gpu


def is_told(name: str) -> bool:
    return "given" in name


def learnt_from(name: str) -> tuple[Dataset, ModelConfig]:
    values, choices, _ = KINDS[name]
    data = Dataset(name, values)
    if is_told(name):
        data = replace(data, given=GIVEN)
    return data, model_config(data, Choices(**choices), LABELS if is_told(name) else ())


def trained(name: str, device: str, steps: int = 4, **settings: Any) -> AutoregressiveModel:
    more = KINDS[name][2]
    data, config = learnt_from(name)
    every = {"steps": steps, "validate_every": steps, "checkpoint_every": steps}
    state = fresh_state(
        config, TrainSettings(batch_size=16, **every, **{**more, **settings}), device
    )
    train(state, data, data.limit(16), Follower())
    model: AutoregressiveModel = state.averaged_model()
    return model


@torch.no_grad()
def nats(name: str, model: AutoregressiveModel, device: str) -> Tensor:
    """Return the log-density of the first examples, on a device, (8, D)."""
    x = KINDS[name][0][:8]
    x = model.sort((x.float() / 255 if x.dtype == torch.uint8 else x).to(model.mean.device))
    batch = Batch.of(x)
    if is_told(name):
        batch = batch._replace(given=GIVEN[:8])
    return log_likelihood(model, batch.to(device)).cpu()


@each
def test_the_density_of_a_model_is_that_of_the_cpu(name: str, device: str) -> None:
    model = trained(name, device)
    here = copy.deepcopy(model).cpu()
    found, expected = nats(name, model, device), nats(name, here, "cpu")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


@each
def test_a_model_starts_as_on_the_cpu(name: str, device: str) -> None:
    """The noise of a step is another on each device; a step of no length leaves the start."""
    values = []
    for where in ("cpu", device):
        values.append(nats(name, trained(name, where, steps=1, lr=1e-12), where).sum(1))
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=2e-2)


@each
def test_samples_are_finite_and_of_the_shape(name: str, device: str) -> None:
    model = trained(name, device)
    given = GIVEN[:8].to(device) if is_told(name) else None
    noise = SampleNoise(0, range(8), device=device)
    x = sample(model, default_sampler(model), noise, given=given)
    assert x.shape == (8, *model.config.shape)
    assert torch.isfinite(x).all()


@each
@pytest.mark.parametrize("setting", [{"precision": "bf16"}, {"compile": True}], ids=str)
def test_bf16_and_compiled_steps_train_much_as_others_do(
    name: str, setting: dict[str, Any], device: str
) -> None:
    """Eight steps end at densities that agree as well as eight significant bits allow."""
    if device == "cpu" and "compile" in setting and name != "csm":
        pytest.skip("a C++ compiler takes a minute for each kind")
    plain, other = trained(name, device, 8), trained(name, device, 8, **setting)
    a, b = (nats(name, model, device).sum(1).mean() for model in (plain, other))
    assert abs(float(a - b)) < 0.05 * max(10.0, abs(float(a)))


@each
def test_a_step_waits_for_nothing(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the records of a run nothing of the device's results is asked for."""
    monkeypatch.setattr("arcsm_cli.training.loop._STEPS_AHEAD", {})  # as on a GPU
    more = KINDS[name][2]
    data, config = learnt_from(name)
    every = {"steps": 8, "validate_every": 8, "checkpoint_every": 8}
    state = fresh_state(config, TrainSettings(batch_size=16, **every, **more), device)
    watch = Watch(device)

    class Stepping(Follower):
        def stepped(self, state: Any, loss: float) -> None:
            watch.count(state.step)

    with watch.on():
        train(state, data, data.limit(16), Stepping())
    assert watch.waits == 0


class Watch:
    """Counts what waits for the device in steps 2 to 7: by CUDA's own account, or by operator."""

    def __init__(self, device: str) -> None:
        self.cuda, self.waits, self.counting = device == "cuda", 0, False

    def count(self, step: int) -> None:
        self.counting = 1 <= step < 7
        if self.cuda:
            torch.cuda.set_sync_debug_mode("error" if self.counting else "default")

    @contextmanager
    def on(self) -> Iterator[None]:
        watch = self

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(
                self, func: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                waiting = ("_local_scalar_dense", "nonzero", "masked_select")
                watch.waits += watch.counting and func.overloadpacket.__name__ in waiting
                return func(*args, **(kwargs or {}))

        try:
            if self.cuda:
                yield
            else:
                with Mode():
                    yield
        finally:
            if self.cuda:
                torch.cuda.set_sync_debug_mode("default")
