"""The objectives under comparison, each from a score field and a batch to a loss an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arcsm_cli.objectives.csm import summand
from arcsm_cli.objectives.sliced import sm, ssm, ssm_vr
from arcsm_cli.randomness import rademacher


@dataclass(frozen=True)
class Objective:
    """An objective with its own constant.

    Attributes:
        name: ``csm``, ``sm``, ``ssm``, ``ssm-vr``, ``dsm`` or ``mle``.
        sigma: the noise of dsm, in the scale of the data.
        projections: M of ssm, averaged.

    Example:
        >>> Objective("dsm", sigma=0.1).label, Objective("ssm", projections=10).label
        ('dsm 0.1', 'ssm 10')
    """

    name: str
    sigma: float = 0.0
    projections: int = 1

    @property
    def label(self) -> str:
        """The objective and its constant, as results name it."""
        if self.name == "dsm":
            return f"dsm {self.sigma:g}"
        return f"ssm {self.projections}" if self.name == "ssm" else self.name

    def __call__(self, field: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, (B,).

        ``csm`` and ``mle`` draw nothing; all but dsm have one expectation on a field whose
        component d is a function of x_1..x_d (see `arcsm_cli.objectives.sliced`).

        Arguments:
            field: see `arcsm_cli.comparisons.fields`.
            x: (B, D).
            generator: of projections and noise, on the device of x.
        """
        if self.name == "csm":
            s, ds = field.with_derivative(x)
            return summand(s, ds).sum(1)
        if self.name == "mle":
            nll: Tensor = -field.model.log_prob(x).sum(1)
            return nll
        if self.name == "dsm":
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            s = field(x + self.sigma * noise)
            error: Tensor = 0.5 * (s + noise / self.sigma).square().sum(1)
            return error
        x = x.detach().requires_grad_()
        s = field(x)
        if self.name == "sm":
            return sm(s, x)
        if self.name == "ssm-vr":
            return ssm_vr(s, x, rademacher(x, generator))
        draws = [ssm(s, x, rademacher(x, generator)) for _ in range(self.projections)]
        return torch.stack(draws).mean(0)


def objectives(
    names: tuple[str, ...], sigmas: tuple[float, ...], projections: tuple[int, ...]
) -> list[Objective]:
    """Return the named objectives, dsm at each sigma and ssm with each number of projections."""
    found: list[Objective] = []
    for name in names:
        if name == "dsm":
            found += [Objective(name, sigma=sigma) for sigma in sigmas]
        elif name == "ssm":
            found += [Objective(name, projections=m) for m in projections]
        else:
            found.append(Objective(name))
    return found
