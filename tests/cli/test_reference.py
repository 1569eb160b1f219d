"""The command-line reference says what the programs' help says."""

from pathlib import Path

import pytest

from arcsm_cli.app import COMMANDS
from arcsm_cli.cli.reference import main, reference


@pytest.fixture(scope="module")
def page() -> str:
    return reference()


def test_the_page_in_docs_is_current(repository: Path) -> None:
    assert main(["--check", "--page", str(repository / "docs" / "cli.md")]) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str, page: str) -> None:
    assert f"## arcsm {name}\n" in page


def test_the_page_does_not_depend_on_the_terminal(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "47")
    assert reference() == page


def test_the_page_does_not_depend_on_the_environment(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCSM_DEVICE", "cpu")
    monkeypatch.setenv("ARCSM_DATA", "/somewhere")
    assert reference() == page


def test_a_stale_page_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "cli.md"
    page.write_text("old")
    assert main(["--check", "--page", str(page)]) == 1
    assert page.read_text() == "old"
    assert "out of date" in capsys.readouterr().err


def test_writing_makes_the_page_current(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    assert main(["--page", str(page)]) == 0
    assert main(["--check", "--page", str(page)]) == 0
