"""What shells complete, asked of the real shells where they are installed."""

import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from arcsm_cli.cli.completion import TABLE, candidates
from arcsm_cli.pretrained import names

Complete = Callable[[str, str], str]


@pytest.fixture(scope="module")
def table() -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(TABLE.read_text())
    return found


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("tr", {"train"}),
        ("train mni", {"mnist"}),
        ("train mnist:", {"mnist:train", "mnist:test"}),
        ("sample ", {f"arcsm:{name}" for name in names()}),
        ("sample m --sampler ", {"ode", "langevin"}),
        ("sample m --sampler=o", {"--sampler=ode"}),
        ("eval m digits --metric nll,b", {"nll,bpd"}),
        ("compare ", {"cost", "two-d"}),
        ("denoise m digits --corrupt g", {"gaussian:"}),
        ("--v", {"--version"}),
        ("train digits --no-", set()),
    ],
)
def test_options_their_values_data_and_models_are_completed(
    line: str, some: set[str], table: Mapping[str, Any]
) -> None:
    found = {c.word for c in candidates(table, line.split(" ")) if c.kind != "F"}
    assert some <= found
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


def test_numbers_are_left_alone(table: Mapping[str, Any]) -> None:
    assert not list(candidates(table, ["train", "digits", "--steps", ""]))


def test_files_follow_options_and_arguments(table: Mapping[str, Any]) -> None:
    for words in (["info", "a"], ["train", "digits", "-o", ""], ["merge", "a", "b", ""]):
        assert [c.kind for c in candidates(table, words)] == ["F"]


def test_nothing_heavy_is_imported_and_a_tenth_of_a_second_is_enough(
    environment: dict[str, str],
) -> None:
    code = "import sys; from arcsm_cli.app import main; main(); print(*sys.modules)"
    asked = environment | {"_ARCSM_COMPLETE": "zsh"}
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "digits", "--"], env=asked, capture_output=True
    )
    *found, modules = done.stdout.decode().splitlines()
    assert len(found) > 20
    assert not {"torch", "typer", "numpy"} & set(modules.split())


@pytest.fixture
def shell_environment(
    environment: dict[str, str], program: list[str], tmp_path: Path
) -> dict[str, str]:
    (tmp_path / "my data").mkdir()
    (tmp_path / "one.h5").touch()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "arcsm").write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    (bin_ / "arcsm").chmod(0o755)
    changed = {"PATH": f"{bin_}:{environment['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}
    return environment | changed


LINES = [
    ("arcsm train mni", "mnist"),
    ("arcsm train digits:tr", "digits:train"),
    ("arcsm sample arcsm:dig", "arcsm:digits"),
    ("arcsm sample m --sampler lan", "langevin"),
    ("arcsm info on", "one.h5"),
    ("arcsm info my", "my\\ data/"),
    ("arcsm train digits --output=on", "--output=one.h5"),
]


@pytest.mark.parametrize(("line", "wanted"), LINES)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_that_is_typed_at_completes(
    shell: str, line: str, wanted: str, shell_environment: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    start = {
        "bash": ["bash", "--norc", "--noprofile", "-i"],
        "zsh": ["zsh", "-f", "-i"],
    }[shell]
    before = {
        "bash": "",
        "zsh": "unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -D; ",
    }
    setup = f'{before[shell]}eval "$(_ARCSM_COMPLETE=source_{shell} arcsm)"; PS1="rea"dy:; cd .\n'
    master, slave = pty.openpty()
    child = subprocess.Popen(
        start, stdin=slave, stdout=slave, stderr=slave, env=shell_environment, cwd=tmp_path,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        os.write(master, setup.encode())
        seen = _read_until(master, "ready:")
        os.write(master, f"{line}\t".encode())
        seen = _read_until(master, wanted)
        assert wanted in seen, seen
        assert seen.count("arcsm:") <= 1
    finally:
        child.kill()
        child.wait()
        os.close(master)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize(("line", "wanted"), LINES[:-1])
def test_fish_completes(
    line: str, wanted: str, shell_environment: dict[str, str], tmp_path: Path
) -> None:
    code = f"_ARCSM_COMPLETE=source_fish arcsm | source; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code],
        env=shell_environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    words = {found.partition("\t")[0] for found in done.stdout.splitlines()}
    assert wanted in words or wanted.replace("\\", "") in words, done


def _read_until(terminal: int, wanted: str, seconds: float = 30) -> str:
    seen, end = "", time.monotonic() + seconds
    while wanted not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 1 << 16).decode(errors="replace").replace("\a", "")
    return seen
