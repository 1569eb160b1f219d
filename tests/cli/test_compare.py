"""``arcsm compare``: files, tables, figures and errors, by the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]
SMALL = ("compare", "variance", "--seeds", "0", "--dims", "2", "--steps", "2", "-q")


def test_results_are_printed_explained_and_drawn(call_in: Call, tmp_path: Path) -> None:
    env = {"ARCSM_DATA": "data"}  # of no use to this experiment, and no reason to refuse
    done = call_in(tmp_path, *SMALL, "-o", "v.h5", "--json", env=env)
    assert (done.code, done.err) == (0, "")
    assert done.json["metrics"]["loss/draws/csm"] == 0
    assert done.json["settings"]["dims"] == [2]

    info = call_in(tmp_path, "info", "v.h5", "--json").json
    assert (info["format"], info["experiment"]) == ("arcsm-comparison", "variance")
    assert info["settings"]["steps"] == 2
    assert info["provenance"][-1]["command"] == "compare"

    drawn = call_in(tmp_path, "plot", "v.h5")
    assert (drawn.code, drawn.err) == (0, "")
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_file_goes_to_standard_output_alone(call_in: Call, tmp_path: Path) -> None:
    done = call_in(tmp_path, *SMALL, "-o", "-")
    assert done.code == 0
    assert done.out.startswith(b"\x89HDF")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("variance", "--memory-limit", "1"), "--memory-limit"),
        (("variance", "--data", "digits"), "--data"),
        (("cost", "--data-dir", "."), "--data-dir"),
        (("cost", "--dims", "10,x"), "--dims"),
        (("cost", "--dims", "1"), "--dims"),
        (("cost", "--seeds", "-1"), "--seeds"),
        (("cost", "--time-limit", "-1"), "--time-limit"),
        (("convergence", "--sigmas", "0"), "--sigmas"),
        (("likelihood", "--lr", "nan"), "--lr"),
        (("two-d", "--data", "digits"), "--data"),
        (("two-d", "--methods", "mle 0"), "--methods"),
        (("cost", "--methods", "mle"), "--methods"),
        (("variance", "--methods", "csm"), "--methods"),
        (("orders", "--data", "digits:train"), "--data"),
    ],
)
def test_what_does_not_fit_is_named(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = call("compare", *arguments, "-o", "x.h5")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert named in done.err
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.slow
def test_an_existing_file_is_kept(call_in: Call, tmp_path: Path) -> None:
    (tmp_path / "v.h5").write_text("precious")
    assert call_in(tmp_path, *SMALL, "-o", "v.h5").code == 73
    assert (tmp_path / "v.h5").read_text() == "precious"


@pytest.mark.slow
def test_figures_of_results_have_no_options(call_in: Call, tmp_path: Path) -> None:
    assert call_in(tmp_path, *SMALL, "-o", "v.h5").code == 0
    done = call_in(tmp_path, "plot", "v.h5", "--count", "3")
    assert done.code == 2
    assert "v.h5" in done.err


@pytest.mark.slow
def test_a_limit_is_said(run_arcsm: Callable[..., Any]) -> None:
    done = run_arcsm(
        *("compare", "cost", "--quick", "--dims", "10", "--seeds", "0", "--steps", "2"),
        *("--memory-limit", "0.001", "-o", "c.h5", "--json", "-q"),
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stopped = json.loads(done.stdout)["stopped"]
    assert {row["limit"] for row in stopped} == {"memory"}


@pytest.mark.slow
def test_an_interrupted_measurement_leaves_nothing(
    program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Neither a file nor a process, though the measurement is in a process of its own."""
    command = [*program, "compare", "cost", "--dims", "3000", "--steps", "100", "-o", "c.h5", "-q"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 250
        while not any(path.name.endswith(".tmp") for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=250)
    assert process.returncode == 130
    assert len(complaint.splitlines()) == 1
    assert list(tmp_path.glob("*.h5")) == []
    assert list(tmp_path.glob("*.tmp")) == []
    deadline = time.monotonic() + 250
    while _group_lives(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
