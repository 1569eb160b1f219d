"""The program runs from a wheel and from a checkout, whatever the current folder is."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from arcsm_cli.app import COMMANDS

pytestmark = pytest.mark.slow  # a wheel is built, and a dozen interpreters start


@pytest.fixture(scope="session")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from: building leaves files in its folder."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (repository / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((repository / name).read_bytes())
    return folder


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*build, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in, without its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, capture_output=True)
    return folder


def isolated(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """Finds `folder` and the dependencies, but not the checkout that is installed editable."""
    return environment | {
        "PYTHONPATH": os.pathsep.join([str(folder), sysconfig.get_path("purelib")]),
        "PYTHONNOUSERSITE": "1",
    }


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -S leaves out the site packages and with them the editable installation; PYTHONPATH brings the
# dependencies back.
PYTHON = [sys.executable, "-S"]


def test_the_wheel_holds_the_commands_inside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith("commands/")]
    for command in COMMANDS:
        assert f"arcsm_cli/commands/{command.replace('-', '_')}.py" in names


def test_the_wheel_holds_every_module_of_the_checkout(wheel: Path, repository: Path) -> None:
    modules = {str(path.relative_to(repository)) for path in repository.glob("arcsm_cli/**/*.py")}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


def test_the_models_that_come_along_are_in_the_wheel(
    installed: Path, environment: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    listed = run(
        [*PYTHON, "-m", "arcsm_cli", "models", "--json"], isolated(environment, installed), tmp_path
    )
    found = {row["name"] for row in json.loads(listed)["models"]}  # each of the declared SHA-256
    folder = repository / "arcsm_cli" / "pretrained"
    assert found == {f"arcsm:{path.stem}" for path in folder.glob("*.safetensors")} != set()


def test_the_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith((".dist-info", ".data"))} == {"arcsm_cli"}


def test_the_wheel_brings_a_manual_page_for_every_command(installed: Path) -> None:
    pages = {path.stem for path in (installed / "share" / "man" / "man1").glob("*.1")}
    assert pages == {"arcsm", *(f"arcsm-{name}" for name in COMMANDS)}


def test_the_wheel_runs_as_a_module_from_any_folder(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    code = "import arcsm_cli.commands.merge as m; print(m.__file__)"
    where = run([*PYTHON, "-c", code], isolated(environment, installed), tmp_path)
    assert where.startswith(str(installed))
    command = [*PYTHON, "-m", "arcsm_cli", "merge", "--help"]
    assert "Usage: arcsm merge" in run(command, isolated(environment, installed), tmp_path)


def test_the_wheel_brings_the_program(
    installed: Path, environment: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    script = [*PYTHON, str(installed / "bin" / "arcsm")]
    run(
        [*script, "merge", str(samples), "-o", "all.h5"], isolated(environment, installed), tmp_path
    )
    table = run([*script, "info", "all.h5"], isolated(environment, installed), tmp_path)
    assert "arcsm-samples" in table


def test_a_user_s_own_package_called_commands_does_not_matter(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "__init__.py").write_text("raise RuntimeError('not this one')")
    command = [*PYTHON, "-m", "arcsm_cli", "info", "--help"]
    assert "Usage: arcsm info" in run(command, isolated(environment, installed), tmp_path)


@pytest.mark.parametrize("where", ["the repository", "elsewhere"])
def test_the_checkout_runs_as_a_module(
    where: str, repository: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = repository if where == "the repository" else tmp_path
    command = [sys.executable, "-m", "arcsm_cli", "merge", "--help"]
    assert "Usage: arcsm merge" in run(command, environment, folder)


def test_the_checkout_runs_without_being_installed(
    repository: Path, environment: dict[str, str]
) -> None:
    nothing = repository / "nowhere"
    command = [*PYTHON, "-m", "arcsm_cli", "merge", "--help"]
    assert "Usage: arcsm merge" in run(command, isolated(environment, nothing), repository)


def test_the_script_runs_from_any_folder(
    program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    assert "Usage: arcsm merge" in run([*program, "merge", "--help"], environment, tmp_path)
