"""Workloads of PixelCNN++: ours, and the independent plain implementation beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import median_seconds
from plain_pixelcnn import PlainPixelCNN, plain_discretized_mix_logistic_loss
from torch import Tensor

from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig, noise_levels
from arcsm_cli.models.pixelcnn import PixelCNN
from arcsm_cli.models.restore import make_model
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.mle import mle
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.randomness import Draws
from arcsm_cli.runtime import reuse_memory

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
FILTERS, BLOCKS, BATCH, COMPONENTS = 32, 2, 16, 10
SIDES = (16, 32, 64)


def network(shape: tuple[int, int, int]) -> PixelCNN:
    """A context network for an AR-CSM, in evaluation mode."""
    torch.manual_seed(0)
    return PixelCNN(shape, width=16, filters=FILTERS, blocks=BLOCKS, dropout=0.0).eval()


@torch.no_grad()
def full_seconds(net: PixelCNN, passes: int) -> float:
    """Seconds of a full pass a pixel for a batch, from a few passes."""
    x = torch.rand(BATCH, net.dimensions) * 2 - 1
    return median_seconds(lambda: net(x), warm=1, runs=passes) * net.shape[1] * net.shape[2]


@torch.no_grad()
def incremental_seconds(net: PixelCNN, runs: int) -> float:
    """Seconds of all contexts of a batch, one location after another; fails if they differ."""
    x = torch.rand(BATCH, net.dimensions) * 2 - 1
    net.initialise(x)
    rows: list[Tensor] = []

    def walk() -> None:
        rows.clear()
        state = net.incremental(torch.empty(BATCH, 0))
        for d in range(net.dimensions):
            rows.append(state.contexts())
            state.append(x[:, d])

    seconds = median_seconds(walk, warm=1, runs=runs)
    full = net(x)
    error = float((torch.stack(rows, 1) - full).abs().max() / full.abs().max())
    assert error < 1e-5, f"incremental contexts differ by {error}"
    return seconds


def pixelcnn_contexts_full() -> float:
    """28 x 28, batch 16, 32 filters, two blocks: our own full pass for every pixel."""
    return full_seconds(network(GREY), passes=20)


def pixelcnn_contexts_incremental() -> float:
    """The same, each location once."""
    return incremental_seconds(network(GREY), runs=5)


def pixelcnn_contexts_full_colour() -> float:
    """32 x 32 x 3."""
    return full_seconds(network(COLOUR), passes=20)


def pixelcnn_contexts_incremental_colour() -> float:
    """The same, each location once."""
    return incremental_seconds(network(COLOUR), runs=5)


def images(shape: tuple[int, int, int]) -> Tensor:
    """8-bit values in [-1, 1], (B, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (BATCH, *shape), generator=generator) / 127.5 - 1


def plain_step(shape: tuple[int, int, int]) -> float:
    """Seconds of a maximum-likelihood step of the plain implementation."""
    torch.manual_seed(0)
    outputs = parameter_width("discretized-logistic-mixture", COMPONENTS, shape[0])
    # The classic layout gives every channel a block of coefficients.
    outputs = COMPONENTS * 10 if shape[0] == 3 else outputs
    net = PlainPixelCNN(shape[0], FILTERS, BLOCKS, outputs)
    optimizer = torch.optim.Adam(net.parameters())
    x = images(shape)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        plain_discretized_mix_logistic_loss(net(x), x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return median_seconds(step, warm=3, runs=12)


def our_step(
    shape: tuple[int, int, int],
    objective: Callable[..., Tensor],
    *,
    discretized: bool = False,
    precision: str = "fp32",
) -> float:
    """Seconds of one of our steps, as `train` takes them."""
    reuse_memory()
    torch.manual_seed(0)
    net = make_model(_config(shape, likelihood=objective is mle, discretized=discretized))
    net.low_precision = precision == "bf16"
    x = net.sort((images(shape) + 1) / 2)
    batch = perturb(net, x, torch.Generator().manual_seed(0))
    net.initialise(batch.context_input)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    return median_seconds(lambda: _step(net, optimizer, objective, batch), warm=3, runs=12)


def _step(
    net: AutoregressiveModel,
    optimizer: torch.optim.Optimizer,
    objective: Callable[..., Tensor],
    batch: NoisyBatch,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    objective(net, batch, Draws(torch.Generator())).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _config(shape: tuple[int, int, int], *, likelihood: bool, discretized: bool) -> ModelConfig:
    sizes: dict[str, Any] = {
        "context": "pixelcnn",
        "filters": FILTERS,
        "resnet_blocks": BLOCKS,
        "dropout": 0.0,
    }
    sizes |= {"data_shift": (0.5,), "data_scale": (0.5,)}
    if not likelihood:
        return ModelConfig(shape=shape, levels=noise_levels(3.0, 0.1, 3), **sizes)
    name = "discretized-logistic-mixture" if discretized else "logistic-mixture"
    width = parameter_width(name, COMPONENTS, shape[0] if discretized else 1)
    return ModelConfig(
        shape=shape,
        levels=(0.0,) if discretized else (0.1,),
        annealing="none",
        likelihood=name,
        components=COMPONENTS,
        context_width=width,
        **sizes,
    )


def pixelcnn_step_plain() -> float:
    """The plain implementation with PyTorch's defaults."""
    return plain_step(GREY)


def pixelcnn_step_plain_reusing() -> float:
    """The plain implementation in a process that keeps freed memory, as ours does."""
    reuse_memory()
    return plain_step(GREY)


def pixelcnn_step_mle() -> float:
    """Ours: the same network and likelihood."""
    return our_step(GREY, mle, discretized=True)


def pixelcnn_step_mle_bf16() -> float:
    """Ours in bfloat16."""
    return our_step(GREY, mle, discretized=True, precision="bf16")


def pixelcnn_step_plain_colour() -> float:
    """The plain implementation at 32 x 32 x 3."""
    return plain_step(COLOUR)


def pixelcnn_step_mle_colour() -> float:
    """Ours at 32 x 32 x 3."""
    return our_step(COLOUR, mle, discretized=True)


def pixelcnn_step_csm() -> float:
    """Composite score matching over the same network."""
    return our_step(GREY, csm)


def pixelcnn_step_csm_colour() -> float:
    """The same at 32 x 32 x 3."""
    return our_step(COLOUR, csm)


def report_growth() -> None:
    """Print how both ways to compute contexts grow with the number of pixels, as comments."""
    reuse_memory()
    times: dict[str, list[float]] = {"full": [], "incremental": []}
    for side in SIDES:
        net = network((1, side, side))
        times["full"].append(full_seconds(net, passes=5))
        times["incremental"].append(incremental_seconds(net, runs=1))
    pixels = torch.tensor([side**2 for side in SIDES], dtype=torch.float64).log()
    for name, seconds in times.items():
        y = torch.tensor(seconds, dtype=torch.float64).log()
        centred = pixels - pixels.mean()
        slope = float((centred * (y - y.mean())).sum() / centred.square().sum())
        listed = ", ".join(f"{s} x {s}: {t:.3g} s" for s, t in zip(SIDES, seconds, strict=True))
        print(f"#   {name} contexts grow as pixels^{slope:.2f} ({listed})", flush=True)


PIXELCNN_CASES = {
    case.__name__: case
    for case in (
        pixelcnn_contexts_full,
        pixelcnn_contexts_incremental,
        pixelcnn_contexts_full_colour,
        pixelcnn_contexts_incremental_colour,
        pixelcnn_step_plain,
        pixelcnn_step_plain_reusing,
        pixelcnn_step_mle,
        pixelcnn_step_mle_bf16,
        pixelcnn_step_plain_colour,
        pixelcnn_step_mle_colour,
        pixelcnn_step_csm,
        pixelcnn_step_csm_colour,
    )
}
