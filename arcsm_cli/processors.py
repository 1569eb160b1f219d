"""The processors and the memory that this process may use, and how its threads share them.

Nothing here imports PyTorch: its threads read the environment as they are loaded.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from arcsm_cli.distributed.launch import Launch, launched
from arcsm_cli.errors import UsageError

_THREADS, _WAITING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"


def settle_threads() -> None:
    """Say to the threads of libraries not loaded yet how many to be, and to sleep while they wait.

    By default OpenMP's threads spin between two pieces of work, and there are as many as the
    machine has processors, whatever part of them is ours: two runs side by side then take several
    times as long as one after the other. What the user has set stays.
    """
    os.environ.setdefault(_WAITING, "PASSIVE")
    if _THREADS in os.environ:
        return
    own, all_ = usable_processors(), os.cpu_count() or 1
    try:
        launch = launched()
    except UsageError:  # which the command will report
        launch = Launch()
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    share = min(own, int(given)) if given.isdecimal() else own
    if launch.launcher == "torchrun" or not given:  # a task of srun has its part already
        share //= launch.local_size
    if share < all_:
        os.environ[_THREADS] = str(max(1, share))


def usable_processors() -> int:
    """Return how many processors this process may use: by affinity, and by a control group's quota.

    A quota of part of a processor counts as one.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(count, group_quota())))


def usable_memory() -> float:
    """Return the bytes of memory that this process may use.

    The machine's, the grant of a control group or the limit of the process itself, whichever is
    least; shared among the processes of one run on the machine. What others hold does not count:
    the same machine gives the same number.
    """
    try:
        whole: float = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not say
        whole = math.inf
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    limit = math.inf if own == resource.RLIM_INFINITY else own
    return min(limit, min(whole, group_memory()) / launched().local_size)


def group_quota(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the processors that Linux's control groups grant, infinite where they set no limit.

    The least of the process's group and of all above it, in version 2 (``cpu.max``) and version 1
    (``cpu.cfs_quota_us``).

    Arguments:
        membership: which groups the process is in.
        root: where they are mounted.
    """
    found = group_folders("cpu", membership, root)
    return min((quota for folder in found for quota in _limits(folder)), default=math.inf)


def group_memory(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the bytes of memory that Linux's control groups grant, as `group_quota`."""
    names = ("memory.max", "memory.limit_in_bytes")
    found = group_folders("memory", membership, root)
    limits = (_number(folder / name) for folder in found for name in names)
    return min((limit for limit in limits if limit), default=math.inf)


def group_folders(controller: str, membership: Path, root: Path) -> Iterator[Path]:
    """Iterate over the folders that tell the limits of the process's control groups."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            mounts = [root, root / "unified"]
        elif controller in controllers.split(","):
            mounts = [root / controllers, root / controller]
        else:
            continue
        for mount in mounts:
            yield from _upwards(mount, group)


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    # In a container the mount may be the group itself, and its path lead nowhere.
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _limits(folder: Path) -> Iterator[float]:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    if quota and period:
        yield quota / period
    quota, period = _number(folder / "cpu.max"), _number(folder / "cpu.max", 1)
    if quota and period:
        yield quota / period


def _number(file: Path, place: int = 0) -> int:
    """Return a number above 0 in a file, 0 where there is none (``max``, -1 or no such file)."""
    try:
        words = file.read_text().split()
    except (OSError, UnicodeDecodeError):
        return 0
    word = words[place] if place < len(words) else ""
    return int(word) if re.fullmatch(r"\d{1,18}", word) else 0
