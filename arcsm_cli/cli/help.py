"""The layout of a command's help: the same for every command, width and version of typer.

Paragraphs of a docstring are wrapped; the lines of an indented block, such as the command lines
under ``Examples:``, stay lines.
"""

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

EXIT_CODES = {
    0: "done",
    1: "internal error",
    2: "wrong usage",
    65: "damaged or wrong input",
    66: "missing input",
    69: "device or download not available",
    73: "output exists or cannot be written",
    75: "stopped early with everything saved (run again with --resume)",
    130: "interrupted",
}

_NARROWEST, _WIDEST = 40, 100  # columns; longer lines of prose are hard to read


def help_width(context: Any) -> int:
    """The columns that help is laid out for: the terminal's, within reason."""
    columns = context.terminal_width or shutil.get_terminal_size().columns
    return max(_NARROWEST, min(columns, _WIDEST))


def summary(docstring: str | None) -> str:
    """The first line of a docstring, without its full stop."""
    return inspect.cleandoc(docstring or "").partition("\n")[0].rstrip(".")


def format_command(
    path: str,
    docstring: str,
    parameters: Iterable[Any],
    types: Mapping[str, Any],
    width: int,
) -> str:
    """The help of one command.

    Arguments:
        path: The program and its command, such as ``arcsm train``.
        docstring: Of the command's function.
        parameters: Its options and arguments as typer built them.
        types: The annotated type of each parameter, by its Python name.
        width: Columns, at least 40.
    """
    arguments, options = shown_parameters(parameters)
    parts = [
        textwrap.fill(f"Usage: {usage(path, arguments, options)}", width, subsequent_indent="    "),
        *_paragraphs(docstring, width),
    ]
    if arguments:
        rows = [(argument_name(p), described(p)) for p in arguments]
        parts.append("Arguments:\n" + definition_list(rows, width))
    rows = [(option_name(p, types.get(p.name)), described(p)) for p in options]
    parts.append("Options:\n" + definition_list(rows, width))
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    parts.append(textwrap.fill(f"Exit codes: {codes}.", width))
    return "\n\n".join(parts)


def shown_parameters(parameters: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The arguments and the options that help tells of."""
    shown = [p for p in parameters if not getattr(p, "hidden", False)]
    return (
        [p for p in shown if p.param_type_name == "argument"],
        [p for p in shown if p.param_type_name == "option"],
    )


def usage(path: str, arguments: list[Any], options: list[Any]) -> str:
    """A command with its arguments and the options that it needs."""
    needed = [f"{min(p.opts, key=len)} {p.metavar}" for p in options if p.required]
    return " ".join([path, *(_usage_name(p) for p in arguments), *needed, "[OPTIONS]"])


def format_program(
    path: str, description: str, commands: list[tuple[str, str]], options: list[Any], width: int
) -> str:
    """The help of the program itself: what it is, its commands with a line each, its options."""
    parts = [
        f"Usage: {path} COMMAND [ARGUMENTS]",
        *_paragraphs(description, width),
        "Commands:\n" + definition_list(commands, width),
        "Options:\n" + definition_list([(option_name(p, None), p.help) for p in options], width),
    ]
    return "\n\n".join(parts)


def definition_list(rows: list[tuple[str, str]], width: int) -> str:
    """Names on the left, their meanings on the right, both within `width` columns."""
    column = min(max((len(name) for name, _ in rows), default=0), width * 2 // 5) + 4
    lines = []
    for name, meaning in rows:
        wrapped = textwrap.wrap(meaning, width - column, break_on_hyphens=False) or [""]
        if len(name) + 4 <= column:
            lines.append(f"  {name:<{column - 2}}{wrapped[0]}".rstrip())
            wrapped = wrapped[1:]
        else:
            lines.extend(textwrap.wrap(
                name, width, initial_indent="  ", subsequent_indent="      ",
                break_long_words=False, break_on_hyphens=False,
            ))  # fmt: skip
        lines.extend(" " * column + line for line in wrapped)
    return "\n".join(lines)


def argument_name(parameter: Any) -> str:
    """A positional argument as help and errors write it."""
    return str(parameter.metavar or parameter.name.upper())


def _usage_name(parameter: Any) -> str:
    name = argument_name(parameter) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _paragraphs(docstring: str, width: int) -> list[str]:
    blocks = inspect.cleandoc(docstring).split("\n\n")
    return [
        "\n".join(command_line(line, width) for line in block.splitlines())
        if block.startswith(" ")
        else textwrap.fill(" ".join(block.split()), width)
        for block in blocks
    ]


def command_line(line: str, width: int) -> str:
    """A line of an example; one too long for `width` is continued as a shell understands it."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    wrapped = textwrap.wrap(
        line.strip(),
        width - 2,  # for the backslash
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(wrapped)


def option_name(parameter: Any, annotation: Any) -> str:
    """An option's names, and what stands for its value."""
    names = sorted(parameter.opts, key=len) + list(parameter.secondary_opts)
    value = "" if parameter.is_flag or parameter.count else _metavar(parameter, annotation)
    return f"{', '.join(names)} {value}".rstrip()


def _metavar(parameter: Any, annotation: Any) -> str:
    """What stands for the value: the choices, or a word for its type."""
    if parameter.metavar:
        return str(parameter.metavar)
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if inner:
        return _metavar(parameter, inner[0])
    return {int: "N", float: "X"}.get(annotation, "TEXT")


def described(parameter: Any) -> str:
    """What a parameter does, with its default and the like in brackets."""
    notes = []
    if parameter.envvar:
        notes.append(f"env {parameter.envvar}")
    default = parameter.default
    if isinstance(parameter.show_default, str):
        notes.append(f"default {parameter.show_default}")
    elif parameter.show_default and _is_worth_showing(parameter):
        notes.append(f"default {_value(default)}")
    if getattr(parameter, "multiple", False):
        notes.append("repeatable")
    if parameter.required and parameter.param_type_name == "option":
        notes.append("required")
    note = f" [{'; '.join(notes)}]" if notes else ""
    return f"{parameter.help or ''}{note}".strip()


def _is_worth_showing(parameter: Any) -> bool:
    default = parameter.default
    if default is None or default is False or getattr(parameter, "count", False):
        return False
    return bool(default != "" and default != [] and default != ())


def _value(default: Any) -> str:
    if isinstance(default, list | tuple):
        return ", ".join(str(item) for item in default)
    return f"{default:g}" if isinstance(default, float) else str(default)
