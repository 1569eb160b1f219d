"""Standard streams: results alone on stdout, closed pipes, full disks, terminals."""

import hashlib
import os
import pty
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunArcsm = Callable[..., "subprocess.CompletedProcess[Any]"]


def test_a_file_on_stdout_is_alone_there(
    run_arcsm: RunArcsm, samples: Path, tmp_path: Path
) -> None:
    done = run_arcsm("merge", samples, "-vv", "-o", "-", text=False)
    (tmp_path / "piped.h5").write_bytes(done.stdout)
    assert run_arcsm("info", "piped.h5").returncode == 0


def test_a_command_that_writes_a_file_prints_nothing(run_arcsm: RunArcsm, samples: Path) -> None:
    assert run_arcsm("merge", samples, "-o", "all.h5").stdout == ""


def test_commands_join_by_pipes(
    program: list[str], environment: dict[str, str], samples: Path
) -> None:
    arcsm = " ".join(program)
    done = subprocess.run(
        f"cat {samples} | {arcsm} merge - {samples} -o - | {arcsm} info - --json",
        shell=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stderr == ""
    assert '"metrics": {"samples": 8,' in done.stdout


@pytest.mark.parametrize("arguments", [["info"], ["merge", "-o", "-"]], ids=lambda a: a[0])
def test_a_reader_that_is_gone_ends_the_program_quietly(
    arguments: list[str], run_arcsm: RunArcsm, samples: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_arcsm(*arguments, samples, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_results_that_are_cut_short_are_an_output_error(
    unbuffered: str, run_arcsm: RunArcsm, samples: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "out", "wb") as out:
        done = run_arcsm(
            *("info", samples, "--json"),
            env={"PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=out,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)
    assert "standard output: cannot be written" in done.stderr


def test_a_reader_that_is_gone_ends_the_help_quietly(run_arcsm: RunArcsm) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_arcsm("--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reading_stderr_leaves_the_exit_code(run_arcsm: RunArcsm) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_arcsm("info", "nowhere.h5", stderr=writer, stdout=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 66


@pytest.mark.parametrize("arguments", [["info"], ["merge", "-o", "-"]], ids=lambda a: a[0])
def test_a_full_disk_under_stdout_is_code_73(
    arguments: list[str], run_arcsm: RunArcsm, samples: Path
) -> None:
    with open("/dev/full", "wb") as full:
        done = run_arcsm(*arguments, samples, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)


@pytest.mark.parametrize("arguments", ["info", "merge -o -"])
def test_a_closed_stdout_is_code_73(
    arguments: str, program: list[str], environment: dict[str, str], samples: Path
) -> None:
    line = f"{' '.join(program)} {arguments} {samples} >&-"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)


def test_closed_streams_never_become_an_output_file(
    program: list[str], environment: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    line = f"{' '.join(program)} merge {samples} -vv -o all.h5 <&- >&- 2>&-"
    subprocess.run(line, shell=True, cwd=tmp_path, env=environment, check=True)
    content = (tmp_path / "all.h5").read_bytes()
    assert content.startswith(b"\x89HDF")
    assert b"Creating" not in content


def on_a_terminal(
    command: list[str], environment: dict[str, str], folder: Path, stream: str
) -> tuple[int, str]:
    """Runs `command` with one stream on a terminal; returns the exit code and what it shows."""
    leader, follower = pty.openpty()
    streams: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    with subprocess.Popen(
        command, cwd=folder, env=environment, **streams | {stream: follower}
    ) as p:
        os.close(follower)
        shown = b""
        while block := read_terminal(leader):
            shown += block
        code = p.wait(timeout=300)
    os.close(leader)
    return code, shown.decode()


def read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def test_a_table_on_a_narrow_terminal_is_folded_not_cut(
    program: list[str], environment: dict[str, str], samples: Path, run_arcsm: RunArcsm
) -> None:
    run_arcsm("merge", samples, "-o", "all.h5")
    folder = samples.parent
    narrow = environment | {"COLUMNS": "40", "TERM": "xterm", "NO_COLOR": "1"}
    _, shown = on_a_terminal([*program, "info", "all.h5"], narrow, folder, "stdout")
    digest = hashlib.sha256(samples.read_bytes()).hexdigest()
    assert max(map(len, shown.splitlines())) <= 40
    assert digest in "".join(line.split()[-1] for line in shown.splitlines() if line.split())


def test_progress_on_a_terminal_is_a_bar_on_stderr(
    program: list[str], environment: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    command = [*program, "merge", str(samples), "-o", "all.h5"]
    _, shown = on_a_terminal(command, environment | {"TERM": "xterm"}, tmp_path, "stderr")
    assert "merging" in shown
    assert "\x1b[" in shown


@pytest.mark.parametrize("variation", [{"TERM": "dumb"}, {"flag": "-q"}])
def test_no_bar_is_drawn_where_none_is_wanted(
    variation: dict[str, str],
    program: list[str],
    environment: dict[str, str],
    samples: Path,
    tmp_path: Path,
) -> None:
    flags = [variation[key] for key in variation if key == "flag"]
    terminal = environment | {"TERM": variation.get("TERM", "xterm")}
    command = [*program, "merge", str(samples), "-o", "all.h5", *flags]
    assert on_a_terminal(command, terminal, tmp_path, "stderr") == (0, "")


def test_nothing_off_a_terminal_holds_control_characters(
    run_arcsm: RunArcsm, write_samples: Callable[..., Path]
) -> None:
    hostile = [{"command": "train\x1b[2J", "arguments": ["\x07", "a\nb"], "note\r": "\x00"}]
    path = write_samples("hostile.h5", chain=hostile)
    done = run_arcsm("info", path)
    assert done.returncode == 0
    assert all(line.isprintable() for line in done.stdout.split("\n"))
