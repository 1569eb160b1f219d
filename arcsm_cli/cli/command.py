"""One subcommand on typer: loaded when it runs, with the options that every command has.

A command is a file in the folder ``commands/`` (installed as ``arcsm_cli.commands``) with a
function ``run``; its parameters are the command's, its docstring the help.
"""

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand

from arcsm_cli.cli import help, log
from arcsm_cli.cli.config import Config, named_plugins
from arcsm_cli.cli.groups import expanded, packed
from arcsm_cli.cli.invocation import invocation, one_line
from arcsm_cli.cli.options import ConfigFile, Debug, Plugins, Quiet, Verbose
from arcsm_cli.distributed.launch import SWITCH, launched
from arcsm_cli.errors import UsageError
from arcsm_cli.plugins import load_plugin

_PACKAGE = "arcsm_cli.commands"

_SHARED = frozenset({"train", "vae-train", "sample", "denoise", "eval", "ood-score"})
"""Commands whose work several processes share; of the others there is one process."""

_OPEN = _SHARED | {"compare", "data", "distill", "export", "plot"}
"""Commands that read data or models, and hence take plugins."""


def load_command(name: str) -> ModuleType:
    """The module of the command `name`, imported now.

    Also finds the folder ``commands/`` beside the package in a checkout that is not installed.
    """
    _provide_package()
    return importlib.import_module(f"{_PACKAGE}.{name.replace('-', '_')}")


def _provide_package() -> None:
    if _PACKAGE in sys.modules or importlib.util.find_spec(_PACKAGE) is not None:
        return
    folder = Path(__file__).resolve().parents[2] / "commands"
    spec = importlib.util.spec_from_file_location(_PACKAGE, folder / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"no package {_PACKAGE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    spec.loader.exec_module(module)


class LazyCommand(TyperCommand):
    """Stands for a command in listings; becomes the real one when it is parsed or asked for help.

    Typer's parameters and callback of this object are never used.
    """

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Parses `args` with the real command."""
        name = str(self.name)
        invocation().command = name  # for what plugins complain of
        if name in _OPEN and not extra.get("resilient_parsing"):
            # Before anything is parsed: plugins decide what there is to choose from.
            loaded = {plugin: load_plugin(plugin) for plugin in named_plugins(args)}
            invocation().plugins = {k: str(file) for k, file in loaded.items() if file is not None}
        return self.loaded().make_context(info_name, args, parent=parent, **extra)

    def loaded(self) -> Any:
        """The real command, its module imported now."""
        name = str(self.name)
        invocation().command = name
        return build_command(name, load_command(name).run)


def build_command(name: str, function: Callable[..., None]) -> Any:
    """The typer command that calls `function`, with the options of every command added."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=_Command)(_with_common_options(name, function))
    command = typer.main.get_command(app)
    command.name = name
    return command


def _common_options(
    config: ConfigFile = None,
    plugin: Plugins = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Records the options that every command has."""
    running = invocation()
    running.quiet, running.verbose, running.config = quiet, verbose, config
    running.debug = running.debug or debug
    launch = running.launch = launched()
    if launch.size > 1 and running.command not in _SHARED:
        raise UsageError(
            f"{running.command} takes one process, and {launch.launcher} started {launch.size} "
            f"({SWITCH}=0 makes them runs of their own)"
        )
    running.quiet = quiet or not launch.is_first  # the first speaks for all
    log.configure(running.speaker, quiet=running.quiet, verbose=verbose)


def _with_common_options(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """`function` with flags for its groups, and those of `_common_options` after its own."""
    common = dict(inspect.signature(_common_options, eval_str=True).parameters)
    if name not in _OPEN:
        del common["plugin"]
    own = inspect.signature(function, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    named = (*expanded(own.parameters.values()), *common.values())
    parameters = [parameter.replace(kind=keyword) for parameter in named]

    @functools.wraps(function)
    def run(**values: Any) -> None:
        _common_options(**{key: values.pop(key) for key in common})
        _check_stdin(values)
        function(**packed(own.parameters.values(), values))

    # What typer reads of a function.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _check_stdin(values: dict[str, Any]) -> None:
    """Refuses ``-`` as two inputs, or as one of several processes, which would get pieces of it."""
    inputs = [value for name, value in values.items() if name != "output"]
    count = sum(v.count("-") if isinstance(v, list) else v == "-" for v in inputs)
    if count > 1:
        raise UsageError("standard input can be read only once: name a file for all inputs but one")
    if count and invocation().launch.size > 1:
        raise UsageError("standard input cannot be shared by several processes: name a file")


class _Command(TyperCommand):
    """A command that reads ``--config``, and writes its own help."""

    def make_parser(self, ctx: Any) -> Any:
        """A parser that fills in from the configuration file what the command line leaves out."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_with_config(args: list[str]) -> Any:
            given, rest, order = parse(args)
            path = given.get("config")
            if isinstance(path, str) and not ctx.resilient_parsing and "help" not in given:
                config = Config(path, self.params, self.types())
                ctx.meta[_CONFIGURED] = (config, config.complete(given))
            return given, rest, order

        parser.parse_args = parse_with_config  # type: ignore[method-assign]
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses `args`; a value that came from a file is blamed on the file."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            config, names = ctx.meta.get(_CONFIGURED, (None, ()))
            name = error.param.name if error.param else None
            if config is None or name not in names:
                raise
            raise config.explain(name, one_line(error.message)) from error

    def get_help(self, ctx: Any) -> str:
        """The help, as wide as the terminal allows."""
        return help.format_command(
            f"arcsm {self.name}",
            self.help or "",
            self.get_params(ctx),
            self.types(),
            help.help_width(ctx),
        )

    def types(self) -> dict[str, Any]:
        """The annotated type of each parameter, by its Python name."""
        return get_type_hints(self.callback)


_CONFIGURED = f"{__name__}.configured"
