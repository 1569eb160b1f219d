"""The manual pages, ``man arcsm`` and ``man arcsm-COMMAND``, from the same help as all else."""

import inspect
from collections.abc import Mapping
from typing import Any

from arcsm_cli import __version__
from arcsm_cli.cli import help

_ENVIRONMENT = {
    "ARCSM_DATA": "Where data sets are; as --data-dir.",
    "ARCSM_DEVICE": "What to compute on; as --device.",
}
_COLUMNS = 70  # of command lines, beside the margin of a terminal's 80
# What roff would take for a command, or show as another character than the one that is typed.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def program_page(description: str, commands: Mapping[str, str], options: list[Any]) -> str:
    """The page on the program itself.

    Arguments:
        description: a summary and further paragraphs.
        commands: their summaries by name.
        options: of the program, as typer built them.
    """
    summary, _, rest = description.partition("\n\n")
    rows = [(f"arcsm-{name}(1)", text) for name, text in commands.items()]
    flags = [(help.option_name(p, None), p.help) for p in options]
    return _page(
        "arcsm",
        summary.rstrip(".").partition(":")[0],
        {
            "SYNOPSIS": _bold("arcsm COMMAND [ARGUMENTS]"),
            "DESCRIPTION": _prose(f"{summary}\n\n{rest}"),
            "COMMANDS": _definitions(rows),
            "OPTIONS": _definitions(flags),
        },
    )


def command_page(
    name: str, docstring: str, parameters: list[Any], types: Mapping[str, Any], others: list[str]
) -> str:
    """The page on one command; the arguments are those of `help.format_command`.

    Arguments:
        others: the names of all commands, to be seen also.
    """
    arguments, options = help.shown_parameters(parameters)
    text = inspect.cleandoc(docstring).partition("\n\n")[2]
    before, _, examples = text.partition("Examples:\n\n")
    rows = [(help.option_name(p, types.get(p.name)), help.described(p)) for p in options]
    named = [(help.argument_name(p), help.described(p)) for p in arguments]
    also = ", ".join(f"arcsm-{other}(1)" for other in others if other != name)
    return _page(
        f"arcsm-{name}",
        help.summary(docstring),
        {
            "SYNOPSIS": _bold(help.usage(f"arcsm {name}", arguments, options)),
            "DESCRIPTION": _prose(before),
            "ARGUMENTS": _definitions(named),
            "OPTIONS": _definitions(rows),
            "EXAMPLES": _lines(inspect.cleandoc(examples)),
            "SEE ALSO": _roff(f"arcsm(1), {also}"),
        },
    )


def _page(name: str, summary: str, sections: dict[str, str]) -> str:
    codes = [(str(code), meaning) for code, meaning in help.EXIT_CODES.items()]
    also = sections.pop("SEE ALSO", "")
    whole = {
        "NAME": f"{_roff(name)} \\- {_roff(summary)}",
        **sections,
        "EXIT STATUS": _definitions(codes),
        "ENVIRONMENT": _definitions(list(_ENVIRONMENT.items())),
        "SEE ALSO": also,
    }
    parts = [f'.TH {_roff(name.upper())} 1 "" "arcsm {__version__}" "arcsm"', ".ad l", ".nh"]
    for title, text in whole.items():
        parts += [f".SH {title}", text] if text else []
    return "\n".join(parts) + "\n"


def _prose(text: str) -> str:
    return "\n.PP\n".join(_roff(" ".join(block.split())) for block in text.split("\n\n") if block)


def _lines(text: str) -> str:
    lines = [help.command_line(line, _COLUMNS) for line in text.splitlines()]
    return "\n".join([".EX", *map(_roff, lines), ".EE"]) if text else ""


def _definitions(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n{_bold(name)}\n{_roff(meaning)}" for name, meaning in rows)


def _bold(text: str) -> str:
    # Long choices may break after a bar, where a line is narrow.
    return f"\\fB{_roff(text)}\\fR".replace("|", "|\\:")


def _roff(text: str) -> str:
    lines = ("".join(_SPECIAL.get(c, c) for c in line) for line in text.split("\n"))
    return "\n".join(f"\\&{line}" if line.startswith((".", "\\(aq")) else line for line in lines)
