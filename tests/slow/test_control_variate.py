"""csm's control variate over a million draws; `tests/objectives` has what is quick and exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.variate import PosteriorShares
from arcsm_cli.objectives.csm import csm
from arcsm_cli.objectives.dsm import dsm
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws

RANDOM = Draws(torch.Generator())  # of which neither objective draws
DEVIATIONS = (0.25, 1.0, 4.0)


def noisy(x: Tensor, sigma: float, generator: torch.Generator) -> NoisyBatch:
    noise = torch.randn(1, *x.shape, generator=generator, dtype=x.dtype)
    return NoisyBatch(Batch.of(x), x + sigma * noise, noise, torch.tensor(sigma, dtype=x.dtype))


class Along:
    """Derivatives of losses along one direction of the score network's last layer.

    Losses are quadratic in that layer, so that a central difference is the derivative.
    """

    def __init__(self, model: ARCSM) -> None:
        self.model, out = model, model.stage().score.out
        generator = torch.Generator().manual_seed(3)
        self.weights = (out.weight, out.bias)
        self.steps = [torch.randn(w.shape, generator=generator).double() for w in self.weights]

    @torch.no_grad()
    def __call__(self, loss: Callable[[], Tensor]) -> Tensor:
        found = []
        for sign in (1, -2):
            for weight, step in zip(self.weights, self.steps, strict=True):
                weight.add_(step, alpha=sign)
            found.append(loss())
        for weight, step in zip(self.weights, self.steps, strict=True):
            weight.add_(step)
        return (found[0] - found[1]) / 2


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_the_gradient_is_the_same_on_average_and_varies_less_than_csms_and_dsms(
    gaussian_model: Callable[..., ARCSM], sigma: float
) -> None:
    batches, size = 100, 3400  # over a million draws at three levels
    model = gaussian_model((0.0,) * 3, DEVIATIONS, levels=(3.0, 0.1))
    generator, along = torch.Generator().manual_seed(0), Along(model)
    shares = PosteriorShares(3)
    found: dict[str, list[Tensor]] = {"csm": [], "dsm": [], "variate": []}
    for _ in range(batches):
        x = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        batch = noisy((x + 0.2) * model.sd, sigma, generator)  # a mean that the model must learn
        model.shares = None
        found["csm"].append(along(lambda b=batch: csm(model, b, RANDOM)))
        found["dsm"].append(along(lambda b=batch: dsm(model, b, RANDOM)))
        model.shares = shares
        found["variate"].append(along(lambda b=batch: csm(model, b, RANDOM)))
    table = {name: torch.stack(values) for name, values in found.items()}
    gap = table["variate"] - table["csm"]
    error = gap.std() / batches**0.5
    assert gap.mean().abs() < 4 * error
    assert table["csm"].mean().abs() > 20 * error
    variance = {name: float(values.var()) for name, values in table.items()}
    assert variance["variate"] < 0.95 * min(variance["csm"], variance["dsm"])
