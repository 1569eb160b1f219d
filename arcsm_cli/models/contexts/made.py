"""MADE: its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arcsm_cli.models.networks import NetworkOptions
from arcsm_cli.options import option
from arcsm_cli.parts import Part


def _widths(known: Any) -> tuple[int, ...]:
    if known.dimensions <= 16:
        return 64, 64
    return (512, 512) if known.dimensions <= 256 else (1024, 1024)


@dataclass(frozen=True)
class MADEOptions(NetworkOptions):
    """See `arcsm_cli.models.made.MADE`."""

    hidden: tuple[int, ...] = option(
        (1024, 1024),
        "Hidden layers of MADE.",
        metavar="N,N,...",
        follows=_widths,
        shown="64,64 to 1024,1024 by the data's size",
    )
    residual: bool = option(False, "Residual hidden layers of MADE (of one size).")

    def problem(self) -> str | None:
        """See `NetworkOptions.problem`."""
        unequal = self.residual and len(set(self.hidden)) > 1
        return "residual layers must have one size" if unequal else None


PART = Part(
    "arcsm_cli.models.made:MADE", "a masked perceptron (any data)", ("given",), options=MADEOptions
)
