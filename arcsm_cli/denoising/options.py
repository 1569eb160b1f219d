"""The options of the denoising methods, known without importing PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arcsm_cli.options import option, options_of_part
from arcsm_cli.registry import RULES


@dataclass(frozen=True)
class Restoring:
    """How to restore; what is left open follows from the model and the corruption."""

    method: str = option(
        "",
        "How to restore; see below.",
        metavar="NAME",
        names=RULES,
        shown="ode; particles for salt-pepper and masks; known-first for masks of any order",
    )
    sigma: float = option(
        1.0,
        "Noise level to restore at.",
        metavar="S",
        above=0,
        shown="that of --corrupt, else estimated",
    )
    own: Any = options_of_part(RULES)


@dataclass(frozen=True)
class FlowOptions:
    """Of ``ode``."""

    steps: int = option(8, "Steps for each scalar.", metavar="N", least=1)


@dataclass(frozen=True)
class LangevinOptions:
    """Of ``langevin``."""

    steps: int = option(20, "Steps for each scalar.", metavar="N", least=1, shown="20 a level")


@dataclass(frozen=True)
class ParticleOptions:
    """Of ``particles``."""

    particles: int = option(
        16, "Particles an example.", metavar="N", least=1, shown="16; of vectors 64"
    )
    lag: int = option(
        0,
        "Of the average, particles decide a scalar N scalars later.",
        metavar="N",
        least=0,
        shown="three rows",
    )
    draw: bool | None = option(
        None,
        "Give one of the particles, drawn by its weight, or their average.",
        flags=("--draw/--average",),
        shown="draw for masks, average else",
    )


@dataclass(frozen=True)
class KnownFirstOptions:
    """Of ``known-first``."""

    draws: int = option(
        1,
        "Of known-first, give the mean of N draws for each example.",
        metavar="N",
        least=1,
        shown="1, a draw",
    )
