"""Groups of options, each declared once as a dataclass.

    @dataclass(frozen=True)
    class Sizes:
        resize: int | None = option(None, "Scale images to N x N.", metavar="N", least=1)
        width: int = option(16, "Units.", follows=lambda known: 64 if known.resize else 16)

A command takes a group by a parameter annotated with it (`arcsm_cli.cli.groups`): its fields become
flags, keys of ``--config`` and lines of the help, in their order. A field that is no option (no
`option` as its default) takes the value of the command's own parameter of that name.

What a command cannot know before it has seen the data, a field's rule says (``follows``). Such a
command takes `Given`, what was said and no more; `Chosen` fills in the rest.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, get_args, get_origin, get_type_hints

from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.parts import Registry, any_of

_KEY, _PARTS = "option", "parts"
_G = TypeVar("_G")

MOST_UNITS = 1 << 16
"""The most units of a layer; no checkpoint may have more."""
_MOST_LAYERS = 256
_LARGEST = 1e18


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its type and default.

    Attributes:
        help: what it does, one or two sentences; ``{parts}`` stands for those of ``names``.
        metavar: what stands for the value in the help; None for that of the type.
        least, most: the bounds of a number, ends included.
        above, below: the same, ends excluded.
        fewest: how many numbers a list has at least.
        shown: the default in words, where it follows from something else.
        flags: what it is called, where that is not ``--`` and the field's name.
        env: an environment variable that stands for it.
        choices: the texts that it may be.
        names: the registry whose parts it chooses from.
        needs: a registry and a tag: the option is for those of its parts alone.
        follows: the default as a function of what is known, see `Chosen`.
        stored: whether files hold its value, or only what follows from it.
        after: the option that it stands behind in the help, if not the one before.
    """

    help: str
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    fewest: int = 0
    shown: str | None = None
    flags: tuple[str, ...] = ()
    env: str | None = None
    choices: tuple[str, ...] = ()
    names: Registry | None = None
    needs: tuple[Registry, str] | None = None
    follows: Callable[[Any], Any] | None = None
    stored: bool = True
    after: str | None = None


def option(default: Any, help: str, **known: Any) -> Any:
    """Return a dataclass field that is an option; ``known`` are the attributes of `Option`."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, **known)})


def options_of_part(registry: Registry) -> Any:
    """Return a dataclass field that holds the own options of the part chosen of a registry.

    On the command line the options of all parts stand in its place.
    """
    return dataclasses.field(default=None, metadata={_PARTS: registry})


def flag(field: str) -> str:
    """Return the option's name of a field.

    Example:
        >>> flag("data_dir")
        '--data-dir'
    """
    return f"--{field.replace('_', '-')}"


def options_of(group: Any) -> dict[str, Option]:
    """Return the options of a group, a dataclass or an instance, by field and in order."""
    return {f.name: f.metadata[_KEY] for f in fields_of(group) if _KEY in f.metadata}


def stored_options(group: Any) -> dict[str, Any]:
    """Return the values of an instance's options that files hold."""
    return {name: getattr(group, name) for name, known in options_of(group).items() if known.stored}


def fields_of(group: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a group in the order of the help."""
    fields = list(dataclasses.fields(group))
    for field in [f for f in fields if _KEY in f.metadata and f.metadata[_KEY].after]:
        fields.remove(field)
        after = [f.name for f in fields].index(field.metadata[_KEY].after)
        fields.insert(after + 1, field)
    return fields


def registry_of(field: dataclasses.Field[Any]) -> Registry | None:
    """Return the registry whose parts' options a field stands for, if it is such a field."""
    return field.metadata.get(_PARTS)


def default_of(group: Any, name: str) -> Any:
    """Return the default of a group's field."""
    return next(f.default for f in dataclasses.fields(group) if f.name == name)


def given_flags(group: Any) -> list[str]:
    """Return the options that an instance of a group has other values of than the default's.

    One that only repeats its environment variable is not among them.
    """
    found = []
    for name, known in options_of(group).items():
        value = getattr(group, name)
        from_environment = known.env is not None and str(value) == os.environ.get(known.env)
        if value != default_of(group, name) and not from_environment:
            found.append(flag(name))
    return found


def problem_of(name: str, known: Option, value: Any) -> str | None:
    """Return what an option's value should be, if it is out of bounds, or None.

    Example:
        >>> problem_of("lr", Option("", above=0), -1.0)
        'a positive number'
    """
    if isinstance(value, tuple):
        sound = known.fewest <= len(value) <= _MOST_LAYERS and all(
            0 < v <= MOST_UNITS for v in value
        )
        return None if sound else f"sizes from 1 to {MOST_UNITS}, such as 512,512"
    if isinstance(value, str) and known.names is not None:
        return None if value in known.names else f"one of {', '.join(known.names)}"
    if isinstance(value, str) and known.choices:
        return None if value in known.choices else f"one of {', '.join(known.choices)}"
    if not isinstance(value, int | float):
        return None
    bounds = (
        (known.least, "at least", operator.ge),
        (known.above, "above", operator.gt),
        (known.most, "at most", operator.le),
        (known.below, "below", operator.lt),
    )
    stated = [(bound, word, holds) for bound, word, holds in bounds if bound is not None]
    if not stated or (abs(value) < math.inf and all(holds(value, b) for b, _, holds in stated)):
        return None
    if known.above == 0 and len(stated) == 1:
        return "a positive number"
    return " and ".join(f"{word} {bound:g}" for bound, word, _ in stated)


def check_bounds(group: Any) -> None:
    """Refuse an instance of a group with a value out of its option's bounds.

    Raises:
        UsageError: naming the option.
    """
    for name, known in options_of(group).items():
        value = getattr(group, name)
        if problem := problem_of(name, known, value):
            raise UsageError(f"{flag(name)} {shown(value)}: expected {problem}")


def shown(value: Any) -> str:
    """Return an option's value as the command line has it.

    Example:
        >>> shown((64, 64)), shown(0.001)
        ('64,64', '0.001')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class Given(dict[str, Any], Generic[_G]):
    """What the command line says of a group, by field; where it says nothing, nothing."""


class Chosen:
    """Choices, made or following from what is known; each by its name as an attribute.

    A value that was not given follows by its option's rule, which asks for others in the same way,
    whatever the order; else it is the default.

    Arguments:
        given: what was chosen, by field of ``groups``; None and missing ones are open.

    Attributes:
        groups: the groups that the choices are of; a subclass says which.
        facts: names that may be known beside their fields.

    Example:
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     width: int = option(16, "", follows=lambda known: 2 * known.height)
        ...     height: int = option(8, "")
        >>> class SizesChosen(Chosen):
        ...     groups = (Sizes,)
        >>> SizesChosen(height=5).settled(Sizes)
        Sizes(width=10, height=5)
    """

    groups: tuple[type[Any], ...] = ()

    def __init__(self, **given: Any) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        self._known: dict[str, Any] = dict(self.given)

    def about(self, **facts: Any) -> Self:
        """Return the same choices with these things known of the data."""
        other = type(self)(**self.given)
        other._known |= facts
        return other

    def __getattr__(self, name: str) -> Any:
        known = self.__dict__.get("_known", {})
        if name not in known:
            group = None if name.startswith("_") else self._group(name)
            if group is None:
                raise AttributeError(f"nothing is known of {name!r}")
            found = options_of(group).get(name)
            follows = None if found is None else found.follows
            known[name] = default_of(group, name) if follows is None else follows(self)
        return known[name]

    def _group(self, name: str) -> type[Any] | None:
        """Return the group that has an option, or the part chosen whose own it is."""
        for group in self.groups:
            if name in options_of(group):
                return group
        for group in self.groups:
            for part in self._parts(group).values():
                if name in options_of(part):
                    return part
        return None

    def _parts(self, group: type[Any]) -> dict[str, type[Any]]:
        """Return the options of the parts chosen, by the field that holds them."""
        found = {}
        for field in dataclasses.fields(group):
            if (registry := registry_of(field)) is not None:
                found[field.name] = registry.options(getattr(self, chooser(group, registry)))
        return found

    def settled(self, group: type[_G], **others: Any) -> _G:
        """Return the group with every value settled; ``others`` are fields that are no options."""
        names = [name for name in options_of(group) if name not in others]
        values = {name: getattr(self, name) for name in names}
        parts = {field: self.settled(part) for field, part in self._parts(group).items()}
        return group(**values | parts | others)


def chooser(group: Any, registry: Registry) -> str:
    """Return the field of a group that chooses a registry's part."""
    return next(name for name, known in options_of(group).items() if known.names is registry)


def check_needs(given: Mapping[str, Any], group: Any, registry: Registry, chosen: str) -> None:
    """Refuse options that the chosen part has no use for.

    Arguments:
        given: the choices made.
        group: whose options say what they need.
        registry, chosen: the part, and the registry that it is of.

    Raises:
        UsageError: naming the option and what it is for.
    """
    for name, known in options_of(group).items():
        if name not in given or known.needs is None or known.needs[0] is not registry:
            continue
        tag = known.needs[1]
        if not registry.has(chosen, tag):
            owners = any_of(registry.tagged(tag))
            raise UsageError(f"{flag(name)} is for {registry.option} {owners}")


def check_parts(given: Mapping[str, Any], registry: Registry, chosen: str) -> None:
    """Refuse options of other parts than the one chosen, and values that are for others alone.

    Raises:
        UsageError: naming the option and whose it is, or what it should be.
    """
    owners: dict[str, list[str]] = {}
    for part in registry:
        for name in options_of(registry.options(part)):
            owners.setdefault(name, []).append(part)
    for name, parts in owners.items():
        if name in given and chosen not in parts:
            raise UsageError(f"{flag(name)} is for {registry.option} {any_of(parts)}")
    for name, known in options_of(registry.options(chosen)).items():
        if name in given and (wanted := problem_of(name, known, given[name])):
            raise UsageError(
                f"{flag(name)} {shown(given[name])}: {registry.option} {chosen} takes {wanted}"
            )


def layer_sizes(option: str, text: str, *, fewest: int = 0) -> tuple[int, ...]:
    """Read sizes of layers such as ``512,512``; an empty text is no layers at all.

    Raises:
        UsageError: if they are no sizes, or fewer than ``fewest``.

    Example:
        >>> layer_sizes("--hidden", "64,32"), layer_sizes("--hidden", "")
        ((64, 32), ())
    """
    parts = text.split(",") if text else []
    # No more digits than the limit has: int() refuses texts of thousands with an error of its own.
    good = all(p.isdecimal() and len(p) <= 5 and 0 < int(p) <= MOST_UNITS for p in parts)
    if not good or len(parts) < fewest:
        raise UsageError(f"{option} {text}: expected sizes from 1 to {MOST_UNITS}, such as 512,512")
    return tuple(map(int, parts))


def read_fields(kind: type[Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a dataclass's fields from the JSON of an untrusted file, checked by their types.

    Lists become tuples, and whole numbers floats where those are meant. Bounds are not checked.

    Arguments:
        kind: the dataclass, whose fields are numbers, texts, truth values or tuples of numbers.
        values: the JSON object; all of its keys must be fields.
        where: what messages call it.

    Raises:
        DamagedInputError: a key is unknown or a value of the wrong type.
    """
    types = get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}
    if set(values) - names:
        raise DamagedInputError(f"{where} has unknown keys")
    return {key: _read(types[key], value, f"{where}.{key}") for key, value in values.items()}


def _read(wanted: Any, value: Any, where: str) -> Any:
    if get_origin(wanted) is tuple:
        kind = get_args(wanted)[0]
        if not isinstance(value, list):
            raise DamagedInputError(f"{where} is not a list")
        # Whole numbers where fractions are meant would make integer tensors.
        return tuple(_read(kind, item, where) for item in value)
    if wanted is float and type(value) is int and abs(value) <= _LARGEST:
        return float(value)
    kind = wanted if wanted in (int, float, bool) else str
    if type(value) is not kind:
        raise DamagedInputError(f"{where} has the wrong type")
    if isinstance(value, float) and not abs(value) <= _LARGEST:
        raise DamagedInputError(f"{where} is not a usable number")
    return value
