"""How many threads a process starts: as many as it may use processors."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from arcsm_cli import processors
from arcsm_cli.processors import group_quota, settle_threads, usable_processors


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/../outside\n", {"cpu.max": "200000 100000\n"}, 2.0),
        (
            "5:memory:/m\n3:cpu,cpuacct:/job\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("damaged", {}, math.inf),
    ],
)
def test_the_least_quota_of_all_groups_counts(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    assert group_quota(tmp_path / "membership", tmp_path / "root") == quota


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert group_quota(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "count"), [(0.5, 1), (1.5, 2), (2.0, 2), (math.inf, 6)])
def test_affinity_and_quota_bound_the_processors(
    monkeypatch: pytest.MonkeyPatch, quota: float, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(processors, "group_quota", lambda: quota)
    assert usable_processors() == count


@pytest.mark.parametrize(
    ("given", "threads", "policy"),
    [
        ({}, "6", "PASSIVE"),
        ({"SLURM_CPUS_PER_TASK": "4"}, "4", "PASSIVE"),
        ({"SLURM_CPUS_PER_TASK": "64"}, "6", "PASSIVE"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "SLURM_CPUS_PER_TASK": "4"},
            "2",
            "PASSIVE",
        ),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "3", "PASSIVE"),
        ({"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}, "5", "ACTIVE"),
    ],
    ids=str,
)
def test_threads_keep_to_what_is_ours_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], threads: str, policy: str
) -> None:
    kept = {"PATH": os.environ["PATH"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    monkeypatch.setattr(os, "environ", kept | given)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(processors, "usable_processors", lambda: 6)
    settle_threads()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == (threads, policy)
