"""Parts that are found where they lie."""

import sys
from pathlib import Path

import pytest

from arcsm_cli.parts import Registry
from arcsm_cli.registry import CONTEXTS

DECLARED = """
from dataclasses import dataclass
from arcsm_cli.models.networks import NetworkOptions
from arcsm_cli.options import option
from arcsm_cli.parts import Part

@dataclass(frozen=True)
class Options(NetworkOptions):
    taps: int = option(3, "Taps.")

PART = Part("no.such.module:Network", "a filter", ("sites",), options=Options)
"""


def test_a_file_alone_makes_a_context_network_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "parts_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fir.py").write_text(DECLARED)
    monkeypatch.syspath_prepend(tmp_path)
    found = Registry("context network", "--context", package=package.name)
    assert list(found) == ["fir"]
    assert found.has("fir", "sites")
    assert found.options("fir")().taps == 3
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        found["fir"]
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


def test_networks_that_are_listed_are_there() -> None:
    assert {"made", "pixelcnn"} <= set(CONTEXTS)
    for name in CONTEXTS:
        assert isinstance(CONTEXTS[name], type)
