"""The workloads of the benchmark: ours, and the same written plainly in PyTorch.

Each case returns seconds for one unit of work. They run in processes of their own (see bench.py),
since allocator settings and caches of one would favour or burden the other.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.models.architecture import Quantiles
from arcsm_cli.models.arcsm import ARCSM, Preconditioning
from arcsm_cli.models.config import ModelConfig, noise_levels
from arcsm_cli.models.made import MADE
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.noisy_batch import NoisyBatch, perturb
from arcsm_cli.randomness import Draws, SampleNoise
from arcsm_cli.runtime import reuse_memory
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.samplers import choose_sampler

BATCH = 128
SIDE = 28


def model(levels: int = 3, quantiles: Quantiles | None = None) -> ARCSM:
    """D = 784, two hidden layers of 1024, contexts of 16, score network 2 x 64."""
    torch.manual_seed(0)
    return ARCSM(
        ModelConfig(
            shape=(1, SIDE, SIDE),
            levels=noise_levels(3.0, 0.1, levels),
            hidden=(1024, 1024),
            score_hidden=(64, 64),
            quantiles=quantiles,
        )
    )


def plain_contexts(made: MADE, x: Tensor) -> Tensor:
    """MADE as it is usually written: every layer a dense product with a masked weight."""
    h = x
    for layer in made.hidden:
        h = functional.silu(functional.linear(h, layer.weight * layer.mask(), layer.bias))
    out = made.output
    return functional.linear(h, out.weight * out.mask(), out.bias).view(len(x), -1, made.width)


def autograd_csm(net: ARCSM, batch: NoisyBatch, contexts: Callable[[Tensor], Tensor]) -> Tensor:
    """J_CSM with ds/dx from a second differentiation of the score network."""
    c = contexts(batch.context_input.x).expand(*batch.score_input.shape, -1)
    x = batch.score_input.clone().requires_grad_()
    p = Preconditioning.of(net.mean, net.sd, batch.sigma)
    score = net.stage().score
    centred = x - p.mean
    f, _ = score.at(p.c_in * centred, score.project(c, batch.sigma.log()))
    s = p.pull * centred + p.gain * f
    (ds,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    return (batch.sigma.square() * (0.5 * s.square() + ds)).sum(-1).mean()


def train_step(
    loss: Callable[[ARCSM, NoisyBatch, Draws], Tensor], *, fused: bool, variate: bool = False
) -> float:
    """Seconds of one step: loss, gradients, Adam, and what the control variate keeps."""
    net = model()
    net.shares = PosteriorShares(SIDE * SIDE) if variate else None
    optimizer = torch.optim.Adam(net.parameters(), fused=fused)
    x = torch.rand(BATCH, SIDE * SIDE) * 2 - 1
    generator = torch.Generator().manual_seed(0)
    batch, random = perturb(net, x, generator), Draws(generator)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net, batch, random).backward()
        optimizer.step()
        if net.shares is not None:
            net.shares.take_in(lambda total: total)

    return median_seconds(step, warm=3, runs=8)


def train_step_plain() -> float:
    """The reference: dense masked layers, derivative by autograd, PyTorch's defaults."""
    return train_step(
        lambda net, b, _: autograd_csm(net, b, lambda x: plain_contexts(net.stage().context, x)),
        fused=False,
    )


def train_step_autograd_derivative() -> float:
    """Ours in everything but the derivative: what the tangent alone gains."""
    reuse_memory()
    return train_step(lambda net, b, _: autograd_csm(net, b, net.contexts), fused=True)


def train_step_eager() -> float:
    """Ours."""
    reuse_memory()
    return train_step(csm, fused=True)


def train_step_variate() -> float:
    """Ours with the control variate."""
    reuse_memory()
    return train_step(csm, fused=True, variate=True)


def train_step_compiled() -> float:
    """Ours under torch.compile."""
    reuse_memory()
    return train_step(torch.compile(csm), fused=True)


def contexts_full() -> float:
    """All contexts of 64 samples by a full pass a dimension; every eighth pass is timed."""
    net, x = model(), torch.rand(64, SIDE * SIDE)
    with torch.no_grad():
        start = time.perf_counter()
        for d in range(0, SIDE * SIDE, 8):
            net.contexts(x)[:, d]
        return (time.perf_counter() - start) * 8


def contexts_incremental() -> float:
    """The same incrementally; fails if they differ by more than 1e-6."""
    return walked(model(), batch=64, tolerance=1e-6, warm=1, runs=5)


def walked(net: ARCSM, batch: int, tolerance: float, *, warm: int, runs: int) -> float:
    """Seconds of all contexts of a batch one after another; fails if the full pass's differ."""
    x = torch.rand(batch, SIDE * SIDE)
    rows = []

    def walk() -> None:
        rows.clear()
        (state,) = net.incremental(torch.empty(batch, 0))
        for d in range(SIDE * SIDE):
            rows.append(state.contexts())
            state.append(x[:, d])

    with torch.no_grad():
        seconds = median_seconds(walk, warm=warm, runs=runs)
        full = net.contexts(x)
    error = float((torch.stack(rows, 1) - full).abs().max() / full.abs().max())
    assert error < tolerance, f"incremental contexts differ by {error}"
    return seconds


def langevin_full(batch: int = 256, dimensions: int = 28) -> float:
    """Langevin sampling with a full, plain pass a dimension; the first ones stand for all."""
    net = model()
    levels = torch.tensor(net.levels)
    x = torch.zeros(batch, SIDE * SIDE)
    with torch.no_grad():
        start = time.perf_counter()
        for d in range(dimensions):
            c = plain_contexts(net.stage().context, x)[:, d : d + 1]
            value = torch.randn(batch, 1) * 3
            for sigma in levels:
                step = 0.2 * sigma**2
                for _ in range(20):
                    s = net.score(value, c, sigma, dims=slice(d, d + 1))
                    value = value + step / 2 * s + step.sqrt() * torch.randn(batch, 1)
            x[:, d] = value[:, 0]
        return (time.perf_counter() - start) * SIDE * SIDE / dimensions


def _sampling(name: str) -> float:
    reuse_memory()
    net = model(quantiles=Quantiles() if name == "quantile" else None)
    sampler = choose_sampler(net, name)
    noise = SampleNoise(0, range(256))
    return median_seconds(lambda: sample(net, sampler, noise), warm=0, runs=3)


def langevin_incremental() -> float:
    """Ours: annealed Langevin, L = 3, T = 20, batch 256."""
    return _sampling("langevin")


def ode_incremental() -> float:
    """Ours: the probability-flow ODE with its default steps, batch 256."""
    return _sampling("ode")


def quantile_incremental() -> float:
    """Ours: one evaluation a scalar of what `arcsm distill` adds, batch 256."""
    return _sampling("quantile")


def median_seconds(work: Callable[[], object], *, warm: int, runs: int) -> float:
    """Seconds of one call: the median of ``runs`` after ``warm`` that are not counted."""
    for _ in range(warm):
        work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_megabytes() -> float:
    """The process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CASES = {
    case.__name__: case
    for case in (
        train_step_plain,
        train_step_autograd_derivative,
        train_step_eager,
        train_step_variate,
        train_step_compiled,
        contexts_full,
        contexts_incremental,
        langevin_full,
        langevin_incremental,
        ode_incremental,
        quantile_incremental,
    )
}
