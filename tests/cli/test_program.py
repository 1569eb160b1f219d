"""The program as a whole: help, versions, wrong command lines, and what it does not import."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arcsm_cli import __version__
from arcsm_cli.app import COMMANDS, main
from arcsm_cli.cli.command import load_command
from arcsm_cli.cli.help import summary

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]

HEAVY = ("torch", "numpy", "h5py", "sklearn", "matplotlib", "rich", "safetensors", "torchvision")

FAST_COMMAND_LINES = [["--help"], ["nonsense"], []] + [
    [name, option] for name in COMMANDS for option in ("--help", "--nope")
]


def spell(arguments: list[str]) -> str:
    return " ".join(arguments) or "nothing"


def test_help_lists_every_command_with_its_summary(run_arcsm: RunArcsm) -> None:
    done = run_arcsm("--help")
    assert done.returncode == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert all([name, text] in lines for name, text in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_summary_is_the_first_line_of_the_command_s_help(name: str) -> None:
    assert summary(load_command(name).run.__doc__) == COMMANDS[name]


def test_every_file_in_the_commands_folder_is_a_listed_command(repository: Path) -> None:
    files = {path.stem.replace("_", "-") for path in (repository / "commands").glob("[a-z]*.py")}
    assert files == set(COMMANDS)


def test_help_and_mistakes_import_nothing_heavy(environment: dict[str, str]) -> None:
    code = (
        "import sys; from arcsm_cli.app import main\n"
        f"for arguments in {FAST_COMMAND_LINES!r}:\n"
        "    main(arguments)\n"
        f"    heavy = set(sys.modules) & set({HEAVY!r})\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["merge", "--nope"]], ids=spell)
def test_help_and_mistakes_answer_in_half_a_second(
    arguments: list[str], program: list[str], environment: dict[str, str]
) -> None:
    def seconds() -> float:
        """Of processor time: others may keep the machine busy."""
        before = os.times()
        subprocess.run([*program, *arguments], capture_output=True, env=environment)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "--forse"], "arcsm merge: no such option: --forse (did you mean --force"),
        (["merge", "--xyz"], "arcsm merge: no such option: --xyz (see 'arcsm merge --help')"),
        (["inof"], "arcsm: no such command 'inof', did you mean 'info'?"),
        (["nonsense"], "arcsm: no such command 'nonsense' (see 'arcsm --help')"),
        ([], "arcsm: missing command (see 'arcsm --help')"),
        (["info"], "arcsm info: missing argument 'FILE' (see 'arcsm info --help')"),
        (["info", "a", "b"], "arcsm info: got unexpected extra argument"),
        (["data", "digits", "-o"], "arcsm data: option '-o' requires an argument"),
        (["data", "digits", "-o", "x", "--limit", "0"], "arcsm data: invalid value for '--limit'"),
        (["data", "digits", "-o", "x", "--limit", "a"], "arcsm data: invalid value for '--limit'"),
        (["data", "digits"], "arcsm data: missing option '--output'"),
    ],
    ids=lambda value: spell(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_answered_with_code_2_and_one_line(
    arguments: list[str], message: str, run_arcsm: RunArcsm
) -> None:
    done = run_arcsm(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(message)


def test_options_may_follow_positional_arguments(run_arcsm: RunArcsm, samples: Path) -> None:
    assert run_arcsm("info", samples, "--json").stdout.startswith("{")


def test_version_is_the_package_s(run_arcsm: RunArcsm) -> None:
    assert run_arcsm("--version").stdout == f"arcsm {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_run_this_command(name: str, run_arcsm: RunArcsm) -> None:
    text = run_arcsm(name, "--help").stdout
    examples = text.partition("\nExamples:\n")[2].partition("\nArguments:")[0]
    assert f"  arcsm {name} " in examples


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_the_terminal(name: str, columns: int, run_arcsm: RunArcsm) -> None:
    done = run_arcsm(*[name] * bool(name), "--help", env={"COLUMNS": str(columns)})
    assert max(map(len, done.stdout.splitlines())) <= columns


def test_the_program_can_be_called_from_python(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(samples), "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.slow
@pytest.mark.slow
def test_neither_a_home_nor_the_notebooks_backend_is_needed(tmp_path: Path) -> None:
    code = (
        "import os, pwd, sys\n"
        "def unknown(*_): raise KeyError\n"
        "pwd.getpwuid = unknown\n"
        "from arcsm_cli.app import main\n"
        "sys.argv[1:] = ['data', 'mnist', '-o', 'm.h5']\n"
        "code = main()\n"
        "import matplotlib\n"
        "matplotlib.get_configdir()\n"
        "sys.exit(code)\n"
    )
    kept = {n: v for n, v in os.environ.items() if n not in ("HOME", "ARCSM_DATA")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"MPLBACKEND": "nosuch"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69, done.stderr
    assert "--data-dir" in done.stderr
