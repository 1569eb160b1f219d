"""docs/security.md says what the code does."""

import importlib
import re
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
UNITS = {"KiB": 1 << 10, "Mi": 1 << 20, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "": 1}


def number(text: str) -> float:
    """The number that the page means by ``16 MiB``, ``65,536`` or ``2^40``."""
    found = re.fullmatch(r"([\d,]+)(?:\^(\d+))? ?([A-Za-z]*)", text)
    assert found, text
    base, power, unit = found.groups()
    return int(base.replace(",", "")) ** int(power or 1) * UNITS[unit]


def limits() -> list[tuple[str, str]]:
    """The constants that the page names, with the values that it gives them."""
    table = PAGE.partition("|---|---|---|")[2]
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|([^|]+)\|$", table, re.MULTILINE)
    pairs = []
    for values, names in rows:
        split = [part.strip() for part in values.split(";")], re.findall(r"`([^`]+)`", names)
        pairs += list(zip(split[1], split[0], strict=True))
    return pairs


def test_the_page_gives_limits() -> None:
    assert len(limits()) >= 25


@pytest.mark.parametrize(("name", "value"), limits())
def test_a_limit_is_what_the_page_says(name: str, value: str) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(f"arcsm_cli.{module}"), constant) == number(value)


@pytest.mark.parametrize("target", TARGETS)
def test_the_page_names_the_targets(target: str) -> None:
    assert f"`{target}`" in PAGE
