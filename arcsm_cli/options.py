"""Groups of options, each declared once as a dataclass.

    @dataclass(frozen=True)
    class Sizes:
        resize: int | None = option(None, "Scale images to N x N.", metavar="N", least=1)

A command takes a group by a parameter annotated with it (`arcsm_cli.cli.groups`): its fields become
flags, keys of ``--config`` and lines of the help, in their order. A field that is no option (no
`option` as its default) takes the value of the command's own parameter of that name.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from arcsm_cli.errors import UsageError

_KEY = "option"


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its type and default.

    Attributes:
        help: what it does, one or two sentences.
        metavar: what stands for the value in the help; None for that of the type.
        least, most: the bounds of a number, ends included.
        shown: the default in words, where it follows from something else.
        flags: what it is called, where that is not ``--`` and the field's name.
        env: an environment variable that stands for it.
    """

    help: str
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    shown: str | None = None
    flags: tuple[str, ...] = ()
    env: str | None = None


def option(default: Any, help: str, **known: Any) -> Any:
    """Return a dataclass field that is an option; ``known`` are the attributes of `Option`."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, **known)})


def flag(field: str) -> str:
    """Return the option's name of a field.

    Example:
        >>> flag("data_dir")
        '--data-dir'
    """
    return f"--{field.replace('_', '-')}"


def options_of(group: Any) -> dict[str, Option]:
    """Return the options of a group, a dataclass or an instance, by field and in order."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(group) if _KEY in f.metadata}


def given_flags(group: Any) -> list[str]:
    """Return the options that an instance of a group has other values of than the default's.

    One that only repeats its environment variable is not among them.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(group)}
    found = []
    for name, known in options_of(group).items():
        value = getattr(group, name)
        from_environment = known.env is not None and str(value) == os.environ.get(known.env)
        if value != defaults[name] and not from_environment:
            found.append(flag(name))
    return found


def check_bounds(group: Any) -> None:
    """Refuse an instance of a group with a number out of its option's bounds.

    Raises:
        UsageError: naming the option.
    """
    for name, known in options_of(group).items():
        value = getattr(group, name)
        if not isinstance(value, int | float):
            continue
        if known.least is not None and value < known.least:
            raise UsageError(f"{flag(name)} {value}: expected at least {known.least:g}")
        if known.most is not None and value > known.most:
            raise UsageError(f"{flag(name)} {value}: expected at most {known.most:g}")
