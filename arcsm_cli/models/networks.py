"""What the options of all context networks share, known without importing PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from arcsm_cli.options import option

_SMALL_DATA = 1024  # values of an example that the sizes called small are meant for


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


def size_option(sizes: Mapping[str, Any], default: str, help: str) -> Any:
    """Return the option ``size`` of a network: a name that stands for several of its options.

    Arguments:
        sizes: by name, with an attribute for each of these; ``small`` and ``base`` among them,
            which are the command's defaults for small and for large data.
        default: of the dataclass.
    """
    return option(
        default,
        help,
        choices=tuple(sizes),
        stored=False,
        follows=lambda known: "small" if known.dimensions <= _SMALL_DATA else "base",
        shown="small up to 1,024 values, else base",
    )


def by_size(sizes: Mapping[str, Any], default: str, name: str, help: str, **bounds: Any) -> Any:
    """Return an option whose default is that of the size."""
    return option(
        getattr(sizes[default], name),
        help,
        follows=lambda known: getattr(sizes[known.size], name),
        shown="by --size",
        **bounds,
    )
