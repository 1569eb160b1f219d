"""The options of the samplers, known without importing PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arcsm_cli.options import option, options_of_part
from arcsm_cli.registry import SAMPLERS


@dataclass(frozen=True)
class Drawing:
    """Which sampler draws, and how; each part's default follows from the model."""

    sampler: str = option(
        "",
        "{parts}.",
        names=SAMPLERS,
        shown="quantile for distilled models, ode for other joint ones, else langevin; ancestral "
        "for likelihoods",
    )
    own: Any = options_of_part(SAMPLERS)


@dataclass(frozen=True)
class FlowOptions:
    """See `arcsm_cli.sampling.ode.ProbabilityFlow`."""

    steps: int = option(
        16, "Heun steps.", metavar="N", least=1, shown="16, or 5 beyond 256 dimensions"
    )


@dataclass(frozen=True)
class LangevinOptions:
    """See `arcsm_cli.sampling.langevin.Langevin`."""

    steps: int = option(20, "Langevin steps a level.", metavar="N", least=1)
    step_size: float = option(
        0.0,
        "Langevin step at the last level; level i takes EPS sigma_i^2 / sigma_min^2.",
        metavar="EPS",
        above=0,
        shown="0.2 sigma_min^2",
    )


@dataclass(frozen=True)
class GridOptions:
    """See `arcsm_cli.sampling.grid.Grid`."""

    points: int = option(256, "Points of the grid.", metavar="N", least=8)
