"""What the options of all context networks share, known without importing PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a context network that has none, and the base of others'.

    A network's options are a frozen dataclass derived from this one, whose fields are `option`s;
    checkpoints hold their values.
    """

    orders: ClassVar[tuple[str, ...]] = ("raster", "reversed", "random")
    """The orders of the variables that the network can follow."""
    rates: ClassVar[tuple[float, float]] = (1e-3, 1e-2)
    """Adam's peak rate by default: for images, and for vectors."""

    @classmethod
    def wants(cls, shape: tuple[int, ...]) -> Want | None:
        """Return what the network takes, if examples of this shape are none of it, or None."""
        return None

    def problem(self) -> str | None:
        """Return what makes these values unusable, beside their bounds, or None."""
        return None


class Want(NamedTuple):
    """What a context network takes, as messages say it, and what helps other data."""

    taken: str
    remedy: str
