"""Groups of options as parameters of commands: one parameter stands for all flags of a group.

    def run(data: Data, sources: DataOptions = DataOptions()) -> None: ...

`expanded` puts the group's flags in the parameter's place, in the order of its fields, and `packed`
turns their values back into the group. ``Annotated[DataOptions, Without("limit")]`` leaves fields
out, which then have their defaults.
"""

import dataclasses
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from arcsm_cli.options import Option, flag, options_of


class Without:
    """Names the fields of a group that a command does not take."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


@dataclass(frozen=True)
class _Group:
    kind: type[Any]
    taken: dict[str, Option]  # by field
    others: tuple[str, ...]  # fields that are no options


def expanded(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters with each group's flags in its place."""
    found: list[inspect.Parameter] = []
    for parameter in parameters:
        group = _group(parameter.annotation)
        found += [parameter] if group is None else _flags(group)
    return found


def packed(parameters: Iterable[inspect.Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """The values of flags, by name, as the parameters before `expanded` take them."""
    result = {}
    for parameter in parameters:
        group = _group(parameter.annotation)
        if group is None:
            result[parameter.name] = values[parameter.name]
        else:
            names = [*group.taken, *(name for name in group.others if name in values)]
            result[parameter.name] = group.kind(**{name: values[name] for name in names})
    return result


def _group(annotation: Any) -> _Group | None:
    left_out: set[str] = set()
    if get_origin(annotation) is Annotated:
        annotation, *notes = get_args(annotation)
        left_out = {name for note in notes if isinstance(note, Without) for name in note.fields}
    if not (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
        return None
    options = options_of(annotation)
    taken = {name: known for name, known in options.items() if name not in left_out}
    fields = dataclasses.fields(annotation)
    return _Group(annotation, taken, tuple(f.name for f in fields if f.name not in options))


def _flags(group: _Group) -> list[inspect.Parameter]:
    types = get_type_hints(group.kind)
    defaults = {field.name: field.default for field in dataclasses.fields(group.kind)}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults[name],
            annotation=Annotated[types[name], _typer_option(name, known)],
        )
        for name, known in group.taken.items()
    ]


def _typer_option(name: str, known: Option) -> Any:
    return typer.Option(
        *(known.flags or (flag(name),)),
        help=known.help,
        metavar=known.metavar,
        min=known.least,
        max=known.most,
        show_default=True if known.shown is None else known.shown,
        envvar=known.env,
    )
