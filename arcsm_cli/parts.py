"""Parts that are chosen by name: what a registry is and what it knows of each of them.

Listing names imports nothing heavy: a part is imported when it is first asked for.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from arcsm_cli.errors import UsageError

_T = TypeVar("_T")


@dataclass(frozen=True)
class NoOptions:
    """The options of a part that has none."""


@dataclass(frozen=True)
class Part:
    """One entry of a registry.

    Attributes:
        place: ``module:attribute``, or the part itself where a plugin registers it.
        help: what it is, on one line without a full stop.
        tags: what must be known of the part without loading it; each registry says which it reads.
        options: the dataclass of the part's own options, likewise ``module:attribute`` of a module
            that does not import PyTorch, or the class itself; None if it has none.
        origin: the plugin that registered it, as ``--plugin`` named it; "" for our own.
    """

    place: Any
    help: str = ""
    tags: tuple[str, ...] = ()
    options: Any = None
    origin: str = ""


class Registry(MutableMapping[str, Any]):
    """Parts of one kind by name; ``registry[name]`` imports the part, the rest nothing heavy.

    A part can be put in the place of another, ``registry[name] = part``; see `register` for more.

    Arguments:
        kind: what the parts are, for messages.
        option: the option that names one, for messages.
        parts: the program's own.
        package: where each module is one more of the program's own, by its name: it has a `Part` as
            its ``PART`` and does not import PyTorch.
        options: the dataclass of the own options of a part that names none.

    Example:
        >>> samplers = Registry("sampler", "--sampler", {"half": Part("math:sqrt", "halves logs")})
        >>> list(samplers), samplers["half"](4.0)
        (['half'], 2.0)
    """

    plugin = ""
    """The plugin that is being loaded, as files name it; its parts are recorded as its."""
    registered = 0
    """How many parts have been registered beside the program's own."""

    def __init__(
        self,
        kind: str,
        option: str,
        parts: Mapping[str, Part] | None = None,
        *,
        package: str = "",
        options: Any = NoOptions,
    ) -> None:
        self.kind = kind
        self.option = option
        self._options = options
        self._own, self._package = dict(parts or {}), package

    @functools.cached_property
    def _parts(self) -> dict[str, Part]:
        """The program's own, found when the first is asked for, and then all others too."""
        if not self._package:
            return self._own
        place = importlib.import_module(self._package).__path__
        names = sorted(module.name for module in pkgutil.iter_modules(place))
        return self._own | {n: _imported(f"{self._package}.{n}:PART") for n in names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._parts

    def __getitem__(self, name: str) -> Any:
        return _imported(self._parts[name].place)

    def __setitem__(self, name: str, part: Any) -> None:
        self._parts[name] = replace(self._parts.get(name, Part(part)), place=part)

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def part(self, name: str) -> Part:
        """Return what is known of a part without loading it; KeyError if there is none."""
        return self._parts[name]

    def has(self, name: str, tag: str) -> bool:
        """Whether a part has a tag; KeyError if there is none of that name."""
        return tag in self._parts[name].tags

    def tagged(self, tag: str) -> tuple[str, ...]:
        """Return the names of the parts with a tag, in order."""
        return tuple(name for name, part in self._parts.items() if tag in part.tags)

    def options(self, name: str) -> Any:
        """Return the dataclass of a part's own options."""
        return _imported(self._parts[name].options or self._options)

    def check(self, name: str) -> str:
        """Return a name that the command line gave.

        Raises:
            UsageError: there is no such part.
        """
        if name in self._parts:
            return name
        close = difflib.get_close_matches(name, self._parts, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"{self.option} {name}: expected one of {', '.join(self._parts)}{hint}")

    def register(
        self, name: str, help: str = "", *, tags: tuple[str, ...] = (), options: Any = None
    ) -> Callable[[_T], _T]:
        """Return a decorator that adds a part under a name; see `Part` for the arguments.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._parts:
            raise UsageError(f"there is a {self.kind} {name!r} already: give yours another name")

        def add(part: _T) -> _T:
            self._parts[name] = Part(part, help, tags, options, Registry.plugin)
            Registry.registered += 1
            return part

        return add


def any_of(names: Iterable[str]) -> str:
    """Return names as a sentence offers them.

    Example:
        >>> any_of(["csm"]), any_of(["ode", "langevin", "grid"])
        ('csm', 'ode, langevin or grid')
    """
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _imported(place: Any) -> Any:
    if not isinstance(place, str):
        return place
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
