"""The experiments by name."""

from __future__ import annotations

import importlib
from typing import Any

EXPERIMENTS = ("cost", "variance", "convergence", "likelihood", "two-d", "orders")


def experiment(name: str) -> Any:
    """Return the module of an experiment.

    It has `Settings` and ``QUICK``, an instance of them; ``run(settings, track)``, which returns
    tables of records; and of these as columns ``summary``, figures by name, and ``shown``, tables
    that a command prints.
    """
    return importlib.import_module(f"arcsm_cli.comparisons.{name.replace('-', '_')}")
