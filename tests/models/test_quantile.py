"""Quantile functions: monotone, inverted, with the density that they say; and taught ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.evaluation.likelihood import spline_log_likelihood
from arcsm_cli.models.architecture import Quantiles
from arcsm_cli.models.conditional import ConditionalModel
from arcsm_cli.models.quantile import QuantileHead
from arcsm_cli.randomness import Draws, SampleNoise
from arcsm_cli.sampling.draw import sample
from arcsm_cli.sampling.quantile import Quantile, exact_quantiles
from arcsm_cli.training.distillation import QUANTILES, Lesson, quantile_loss

Make = Callable[..., Any]
SMALL = Quantiles(quantile_bins=5, quantile_hidden=(8,))
KINDS = {
    "data": {"mean": (0.3,), "sd": (0.7,)},
    "frames": {"frames": "linear"},
    "staged": {"annealing": "staged", "levels": (1.0, 0.3)},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture
def distilled(random_model: Make) -> Make:
    """Makes models with splines of random weights, well away from the identity."""

    def make(**config: Any) -> Any:
        model = random_model(quantiles=SMALL, **config)
        with torch.no_grad():
            model.quantiles.out.weight.normal_(generator=torch.Generator().manual_seed(1))
        return model

    return make


@pytest.fixture
def splines() -> Any:
    """50 splines of random weights, float64."""
    torch.manual_seed(0)
    head = QuantileHead(3, (8,), 6).double()
    torch.nn.init.normal_(head.out.weight, std=0.5)
    return head(torch.randn(50, 3).double())


def grid(dtype: torch.dtype = torch.float64) -> Tensor:
    """Starts far into both tails, the same for 50 splines."""
    return torch.linspace(-6, 6, 401, dtype=dtype).expand(50, -1)


def test_splines_rise_everywhere(splines: Any) -> None:
    assert (splines.values(grid()).diff(dim=1) > 0).all()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_what_is_inverted_is_what_was_mapped(
    splines: Any, dtype: torch.dtype, error: float
) -> None:
    splines = type(splines)(splines.knots.to(dtype))
    x = grid(dtype)
    y = splines.values(x)
    found, log_slope = splines.inverse(y)
    # Where the spline is flat a rounding of y is many of x: measured along the steeper axis.
    assert ((found - x) * log_slope.exp().clamp(max=1)).abs().max() < error


def test_the_slope_is_the_derivative(splines: Any) -> None:
    x = grid().clone().requires_grad_()
    y = splines.values(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(splines.inverse(y)[1], slope.log(), atol=1e-9)


@kinds
def test_the_density_is_that_of_the_map_from_normals_to_examples(
    distilled: Make, kind: dict[str, Any]
) -> None:
    model = distilled(**kind)
    z = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def example(z: Tensor) -> Tensor:
        x = z[:0]
        for d in range(3):
            known = torch.cat([x, z.new_zeros(3 - d)])[None]
            function = model.quantile_function(model.contexts(known)[:, d], d)
            x = torch.cat([x, function(z[d].view(1, 1))[0]])
        return x

    x = example(z)
    jacobian = torch.autograd.functional.jacobian(example, z)
    normal = torch.distributions.Normal(0, 1).log_prob(z).sum()
    expected = normal - torch.linalg.slogdet(jacobian).logabsdet
    assert spline_log_likelihood(model, x[None]).sum().item() == pytest.approx(
        expected.item(), abs=1e-9
    )


@kinds
def test_samples_are_those_of_one_pass_over_their_own_contexts(
    distilled: Make, kind: dict[str, Any]
) -> None:
    model = distilled(**kind)
    noise = SampleNoise(0, range(6))
    x = model.sort(sample(model, Quantile(), noise))
    z = SampleNoise(0, range(6)).normal(3, 1)[..., 0].double()
    rows = ConditionalModel(model).of_examples(x)
    again = rows.quantiles()(z.flatten()[:, None])[:, 0].view_as(x)
    assert (again - x).abs().max() < 1e-5


@kinds
def test_the_teacher_stays_as_it_is(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(quantiles=SMALL, **kind)
    x = torch.randn(4, 3, dtype=torch.float64)
    rows = Lesson(model.contexts(x)[:, 0], torch.zeros(4, dtype=torch.long), x.expand(4, 3))
    quantile_loss(model, rows, Draws(torch.Generator())).backward()
    found = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert found == {name for name, _ in model.named_parameters() if name.startswith("quantiles.")}


@pytest.mark.parametrize("annealing", ["joint", "staged", "none"])
@torch.no_grad()
def test_what_is_taught_are_the_quantiles_of_the_last_level(
    gaussian_model: Make, annealing: str
) -> None:
    levels = (0.3,) if annealing == "none" else (3.0, 0.3)
    model = gaussian_model((0.5, -1.0), (0.4, 2.0), annealing=annealing, levels=levels)
    rows = ConditionalModel(model).of_examples(torch.zeros(1, 2).double())
    z = torch.linspace(-3, 3, 13, dtype=torch.float64).expand(2, -1)
    exact = torch.tensor([[0.5], [-1.0]]) + torch.tensor([[0.5], [4.09**0.5]]) * z
    assert (exact_quantiles(rows, z) - exact).abs().max() < 0.01


def test_taught_mixtures_are_drawn_as_their_closed_form_says(random_model: Make) -> None:
    """w N(-1, 0.2^2) + (1 - w) N(1, 0.2^2), whose weight is the context."""
    model = random_model(
        context_width=1, quantiles=Quantiles(quantile_bins=12, quantile_hidden=(24,))
    )
    places = torch.linspace(-3, 3, 4001, dtype=torch.float64)

    def quantiles(w: Tensor, z: Tensor) -> Tensor:
        cdf = w * torch.special.ndtr((places + 1) / 0.2)
        cdf = cdf + (1 - w) * torch.special.ndtr((places - 1) / 0.2)
        return places[torch.searchsorted(cdf, torch.special.ndtr(z)).clamp(max=4000)]

    generator = torch.Generator().manual_seed(0)
    w = 0.1 + 0.8 * torch.rand(256, 1, generator=generator, dtype=torch.float64)
    share = torch.rand(256, QUANTILES, generator=generator, dtype=torch.float64)
    z = torch.special.ndtri((torch.arange(QUANTILES) + share) / QUANTILES)
    lesson = Lesson(w, torch.zeros(256, dtype=torch.long), quantiles(w, z))
    optimizer = torch.optim.Adam(model.quantiles.parameters(), lr=1e-2)
    for _ in range(600):
        optimizer.zero_grad()
        quantile_loss(model, lesson, Draws(generator)).backward()
        optimizer.step()
    with torch.no_grad():
        w = torch.tensor([[0.2], [0.5], [0.8]], dtype=torch.float64)
        z = torch.special.ndtri(torch.linspace(0.02, 0.98, 25, dtype=torch.float64)).expand(3, -1)
        drawn = model.quantile_function(w, 0)(z)
    error = (drawn - quantiles(w, z)).abs()
    # Between the modes a quantile moves by their distance for a hundredth of the mass.
    assert error.median() < 0.02
    assert (error < 0.1).double().mean() > 0.9
