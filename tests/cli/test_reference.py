"""The command-line reference and the manual pages say what the programs' help says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from arcsm_cli.app import COMMANDS
from arcsm_cli.cli.reference import main, reference


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference()


def test_the_pages_in_the_checkout_are_current(repository: Path) -> None:
    assert main(["--check", "--root", str(repository)]) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str, pages: dict[str, str]) -> None:
    assert f"## arcsm {name}\n" in pages["docs/cli.md"]
    assert f"man/arcsm-{name}.1" in pages


def test_the_pages_do_not_depend_on_terminal_and_environment(
    pages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "47")
    monkeypatch.setenv("ARCSM_DEVICE", "cpu")
    monkeypatch.setenv("ARCSM_DATA", "/somewhere")
    assert reference() == pages


def test_stale_pages_are_found_and_made_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "man").mkdir()
    gone = tmp_path / "man" / "arcsm-gone.1"
    gone.write_text("old")
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert gone.read_text() == "old"
    assert "out of date" in capsys.readouterr().err
    assert main(["--root", str(tmp_path)]) == 0
    assert not gone.exists()
    assert main(["--check", "--root", str(tmp_path)]) == 0


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
@pytest.mark.parametrize("width", [60, 100])
def test_man_shows_every_option_without_complaint(
    width: int, pages: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "arcsm-train.1"
    page.write_text(pages["man/arcsm-train.1"], encoding="utf-8")
    environment = os.environ | {"MANWIDTH": str(width), "LC_ALL": "C.UTF-8"}
    command = ["man", "--warnings", "-l", str(page)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    text = re.sub(".\b", "", done.stdout)  # letters struck twice are bold
    assert done.stderr == ""
    assert max(map(len, text.splitlines())) <= width + 20  # examples are not folded
    for option in re.findall(
        r"^  (-[-\w]+)", pages["docs/cli.md"].split("## arcsm train")[1], re.M
    )[:9]:
        assert option in text
