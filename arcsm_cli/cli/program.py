"""The group of all commands on typer: ``arcsm --help``, ``--version``, completion."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from arcsm_cli import __version__
from arcsm_cli.cli import help
from arcsm_cli.cli.command import LazyCommand


class _Program(TyperGroup):
    def get_params(self, ctx: Any) -> Any:
        """The program's own options, all of them flags that are off by default."""
        options = super().get_params(ctx)
        for option in options:
            # Said outright, it spares converting the default, whose machinery loads slowly.
            option.default = False
        return options

    def get_help(self, ctx: Any) -> str:
        """The help, as wide as the terminal allows."""
        commands = [(n, self.commands[n].get_short_help_str()) for n in self.list_commands(ctx)]
        options = [p for p in self.get_params(ctx) if p.param_type_name == "option"]
        return help.format_program(
            "arcsm", self.help or "", commands, options, help.help_width(ctx)
        )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"arcsm {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Stands before every command; the options of the program itself are its parameters."""


def _not_loaded() -> None:
    """Stands in for a command's function until the command is loaded."""


def build_program(commands: Mapping[str, str], description: str) -> Any:
    """The group of `commands` (names and summaries), none of them imported."""
    app = typer.Typer(
        cls=_Program,
        help=description,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, summary in commands.items():
        app.command(name, cls=LazyCommand, short_help=summary)(_not_loaded)
    return typer.main.get_command(app)
