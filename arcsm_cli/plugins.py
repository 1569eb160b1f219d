"""Plugins: a user's own Python files or modules, which register parts in `arcsm_cli.registry`.

A plugin runs as any program that its user starts: it is loaded only where ``--plugin`` names it,
never because a file asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from arcsm_cli.parts import Registry


def load_plugin(name: str) -> Path | None:
    """Run a plugin, whose parts are then known by their names.

    Arguments:
        name: the path of a file ``FILE.py``, or a module's name.

    Returns:
        The file that was run, if there is one.

    Raises:
        MissingInputError: there is no such file or module.
        DamagedInputError: it fails.
        UsageError: it registers nothing, or a name that is taken.
    """
    is_file = name.endswith(".py") or os.sep in name
    if is_file and not os.path.isfile(name):
        raise MissingInputError(f"--plugin {name}: no such file")
    # What checkpoints call it: a folder may be another tomorrow.
    Registry.plugin, before = os.path.basename(name) if is_file else name, Registry.registered
    try:
        module = _run_file(Path(name)) if is_file else _run_module(name)
    except ArcsmError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise DamagedInputError(f"--plugin {name}: fails with {what}") from error
    finally:
        Registry.plugin = ""
    if Registry.registered == before:
        raise UsageError(f"--plugin {name}: registers nothing (see docs/extending.md)")
    return None if module.__file__ is None else Path(module.__file__)


def _run_file(path: Path) -> ModuleType:
    name = f"arcsm_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingInputError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles of worker processes look
    spec.loader.exec_module(module)
    return module


def _run_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise MissingInputError(f"--plugin {name}: no such module; a file ends in .py") from None
