"""Groups of options as parameters of commands: one parameter stands for all flags of a group.

    def run(data: Data, *, options: DataOptions, training: Given[TrainSettings]) -> None: ...

`expanded` puts the group's flags in the parameter's place, in the order of its fields, and `packed`
turns their values back into the group, or of `Given` into what was given of it.
``Annotated[DataOptions, Without("limit")]`` leaves fields out, which then have their defaults.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from arcsm_cli.errors import UsageError
from arcsm_cli.options import (
    Given,
    Option,
    fields_of,
    flag,
    layer_sizes,
    options_of,
    problem_of,
    registry_of,
    shown,
)
from arcsm_cli.parts import Registry, any_of


class Without:
    """Names the fields of a group that a command does not take."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


@dataclass(frozen=True)
class _Flag:
    name: str
    kind: Any
    default: Any
    known: Option


@dataclass(frozen=True)
class _Group:
    kind: type[Any]
    open: bool  # gives only what was given
    flags: dict[str, _Flag]
    others: tuple[str, ...]  # fields that are no options


def expanded(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters with each group's flags in its place."""
    found: dict[str, inspect.Parameter] = {}
    for parameter in parameters:
        group = _group(parameter.annotation)
        flags = [] if group is None else [_parameter(f, group.open) for f in group.flags.values()]
        for item in [parameter] if group is None else flags:
            if item.name in found:
                raise UsageError(f"{flag(item.name)}: there are two options of this name")
            found[item.name] = item
    return list(found.values())


def packed(parameters: Iterable[inspect.Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """The values of flags, by name, as the parameters before `expanded` take them."""
    result = {}
    for parameter in parameters:
        group = _group(parameter.annotation)
        if group is None:
            result[parameter.name] = values[parameter.name]
        elif group.open:
            said = {name: values[name] for name in group.flags}
            plain = {name for name, item in group.flags.items() if item.kind is bool}
            given = {k: v for k, v in said.items() if v is not None and (v or k not in plain)}
            result[parameter.name] = Given(
                {name: _checked(group.flags[name], value) for name, value in given.items()}
            )
        else:
            names = [*group.flags, *(name for name in group.others if name in values)]
            result[parameter.name] = group.kind(**{name: values[name] for name in names})
    return result


def _group(annotation: Any) -> _Group | None:
    left_out: set[str] = set()
    if get_origin(annotation) is Annotated:
        annotation, *notes = get_args(annotation)
        left_out = {name for note in notes if isinstance(note, Without) for name in note.fields}
    is_open = get_origin(annotation) is Given
    if is_open:
        (annotation,) = get_args(annotation)
    if not (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
        return None
    flags: dict[str, _Flag] = {}
    for found in _flags(annotation):
        if found.name not in left_out:
            flags[found.name] = found
    options = options_of(annotation)
    others = [f.name for f in dataclasses.fields(annotation) if f.name not in options]
    return _Group(annotation, is_open, flags, tuple(others))


def _flags(group: Any) -> Iterator[_Flag]:
    types, options = get_type_hints(group), options_of(group)
    for field in fields_of(group):
        registry = registry_of(field)
        if field.name in options:
            yield _Flag(field.name, types[field.name], field.default, options[field.name])
        elif registry is not None:
            yield from _flags_of_parts(registry)


def _flags_of_parts(registry: Registry) -> Iterator[_Flag]:
    """The options of all parts; one that several have says what it is to each."""
    owners: dict[str, dict[str, _Flag]] = {}
    for part in registry:
        for found in _flags(registry.options(part)):
            owners.setdefault(found.name, {})[part] = found
    for parts in owners.values():
        first, *others = parts.values()
        helps = list(dict.fromkeys(found.known.help for found in parts.values()))
        defaults = {part: _shown(found) for part, found in parts.items()}
        every = tuple(dict.fromkeys(name for item in parts.values() for name in item.known.choices))
        known = replace(first.known, choices=every)
        if len(helps) > 1:
            known = replace(known, help=", or ".join(text.rstrip(".") for text in helps) + ".")
        if len(set(defaults.values())) > 1:
            known = replace(known, shown="; ".join(f"{k}: {v}" for k, v in defaults.items()))
        if any(other.kind != first.kind for other in others):
            raise UsageError(f"{flag(first.name)}: {any_of(parts)} do not agree on its type")
        yield replace(first, known=known)


def _shown(item: _Flag) -> str:
    if item.known.shown is None:
        return "" if item.default is None else shown(item.default)
    return item.known.shown


def _parameter(item: _Flag, is_open: bool) -> inspect.Parameter:
    known, kind, default = item.known, item.kind, item.default
    names = tuple(known.names or known.choices)
    if names:
        kind = Literal[names]
    elif get_origin(kind) is tuple:
        kind = str
    text = known.shown
    if is_open and kind is not bool:
        # Nothing said is not the same as the default: other things may decide it.
        kind, default, text = kind | None, None, _shown(item)
    return inspect.Parameter(
        item.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, _typer_option(item, True if text is None else text)],
    )


def _typer_option(item: _Flag, default: bool | str) -> Any:
    known = item.known
    return typer.Option(
        *(known.flags or (flag(item.name),)),
        help=_help(known),
        metavar=known.metavar,
        min=known.least,
        max=known.most,
        show_default=default or False,
        envvar=known.env,
    )


def _help(known: Option) -> str:
    if known.names is None:
        return known.help
    *most, last = (known.names.part(name).help for name in known.names)
    parts = f"{', '.join(most)}{',' if len(most) > 1 else ''} or {last}" if most else last
    text = known.help.replace("{parts}", parts)
    return text[:1].upper() + text[1:]


def _checked(item: _Flag, value: Any) -> Any:
    """The value of a flag that was given, in the field's type and within its bounds."""
    if get_origin(item.kind) is tuple:
        return layer_sizes(flag(item.name), value, fewest=item.known.fewest)
    if wanted := problem_of(item.name, item.known, value):
        raise UsageError(f"{flag(item.name)} {shown(value)}: expected {wanted}")
    return value
