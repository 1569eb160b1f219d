"""Writes what is made from the help of every command: ``python -m arcsm_cli.cli.reference``.

That is docs/cli.md, the manual pages in man/, and what shells complete. With ``--check`` it writes
nothing and fails if one is not what it would write.
"""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from arcsm_cli.app import COMMANDS, DESCRIPTION
from arcsm_cli.cli.completion_table import table
from arcsm_cli.cli.manual import command_page, program_page
from arcsm_cli.cli.program import build_program

WIDTH = 80  # columns of the help texts on the page

_INTRODUCTION = """# Command line reference

Generated from the programs' own help by `python -m arcsm_cli.cli.reference`; edit the docstrings
in `commands/`, not this page.
"""


def reference() -> dict[str, str]:
    """All pages by their place in the checkout: Markdown, and roff for ``man``."""
    program = build_program(COMMANDS, DESCRIPTION)
    parent = program.make_context("arcsm", [], resilient_parsing=True, terminal_width=WIDTH)
    options = [p for p in program.get_params(parent) if p.param_type_name == "option"]
    parts = [_INTRODUCTION, _block("arcsm", parent.get_help())]
    commands = {}
    pages = {"man/arcsm.1": program_page(DESCRIPTION, COMMANDS, options)}
    for name in COMMANDS:
        context = program.commands[name].make_context(
            name, [], parent=parent, resilient_parsing=True
        )
        parts.append(_block(f"arcsm {name}", context.get_help()))
        pages[f"man/arcsm-{name}.1"] = _manual(name, context)
        commands[name] = (
            COMMANDS[name],
            context.command.get_params(context),
            context.command.types(),
        )
    flags = {name: p.help for p in options for name in sorted(p.opts, key=len)}
    pages["arcsm_cli/cli/completion.json"] = table(flags, commands)
    return {"docs/cli.md": "\n".join(parts), **pages}


def _manual(name: str, context: Any) -> str:
    command = context.command
    parameters = command.get_params(context)
    return command_page(name, command.help, parameters, command.types(), list(COMMANDS))


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the pages; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m arcsm_cli.cli.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout")
    options = parser.parse_args(arguments)
    wanted = reference()
    held = {str(f.relative_to(options.root)) for f in options.root.glob("man/*.1")}
    stale = []
    for name in sorted(wanted.keys() | held):
        page = options.root / name
        found = page.read_text(encoding="utf-8") if page.exists() else None
        if found == wanted.get(name):
            continue
        if options.check:
            old, new = ((text or "").splitlines() for text in (found, wanted.get(name)))
            changes = difflib.unified_diff(old, new, name, "generated", lineterm="")
            print("\n".join(changes), file=sys.stderr)
            stale.append(name)
        elif name in wanted:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(wanted[name], encoding="utf-8")
        else:
            page.unlink()  # of a command that is gone
    if stale:
        why = "out of date; run python -m arcsm_cli.cli.reference"
        print(f"{', '.join(stale)}: {why}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
