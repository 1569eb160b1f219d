"""Writes docs/cli.md from the help of every command: ``python -m arcsm_cli.cli.reference``.

With ``--check`` it writes nothing and fails if the page is not what it would write.
"""

import argparse
import difflib
import sys
from pathlib import Path

from arcsm_cli.app import COMMANDS, DESCRIPTION
from arcsm_cli.cli.program import build_program

WIDTH = 80  # columns of the help texts on the page

_INTRODUCTION = """# Command line reference

Generated from the programs' own help by `python -m arcsm_cli.cli.reference`; edit the docstrings
in `commands/`, not this page.
"""


def reference() -> str:
    """The page, in Markdown."""
    program = build_program(COMMANDS, DESCRIPTION)
    parent = program.make_context("arcsm", [], resilient_parsing=True, terminal_width=WIDTH)
    parts = [_INTRODUCTION, _block("arcsm", parent.get_help())]
    for name in COMMANDS:
        context = program.commands[name].make_context(
            name, [], parent=parent, resilient_parsing=True
        )
        parts.append(_block(f"arcsm {name}", context.get_help()))
    return "\n".join(parts)


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m arcsm_cli.cli.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    parser.add_argument("--page", type=Path, default=Path("docs/cli.md"), help="where it is")
    options = parser.parse_args(arguments)
    wanted = reference()
    if not options.check:
        options.page.write_text(wanted, encoding="utf-8")
        return 0
    found = options.page.read_text(encoding="utf-8") if options.page.exists() else ""
    if found == wanted:
        return 0
    changes = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), str(options.page), "generated", lineterm=""
    )
    print("\n".join(changes), file=sys.stderr)
    print(f"{options.page}: out of date; run python -m arcsm_cli.cli.reference", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
