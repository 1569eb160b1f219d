"""How this process was started: alone, by torchrun, or by srun; from the environment alone."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import zlib
from dataclasses import dataclass

from arcsm_cli.errors import UnavailableError, UsageError

SWITCH = "ARCSM_DISTRIBUTED"
"""Set to 0, it makes the tasks of an srun independent runs."""

_PORTS = range(20_000, 32_768)  # below those that systems hand out by themselves


@dataclass(frozen=True)
class Launch:
    """The place of a process among those that run one command.

    Attributes:
        rank: 0 to size - 1.
        size: how many there are.
        local_rank: among those of this machine.
        local_size: how many this machine has.
        launcher: ``torchrun`` or ``srun``.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and speaks for all."""
        return self.rank == 0


def launched() -> Launch:
    """Return the place of this process, that of a run by itself if nothing says otherwise.

    torchrun's variables come first. Of SLURM's, those of the step count: a batch script has tasks
    too, but its commands are run once unless srun starts them.

    Raises:
        UsageError: the variables contradict each other.
    """
    if os.environ.get(SWITCH) == "0":
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if all(name in os.environ for name in names[:2]):
        rank, size, local_rank, local_size = (_number(name, 0) for name in names)
        absent = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if size > 1 and absent:
            raise UsageError(
                f"RANK and WORLD_SIZE are set, {absent[0]} is not, as torchrun does: if they are "
                f"left over from another run, unset them or set {SWITCH}=0"
            )
        return _checked(Launch(rank, size, local_rank, max(1, local_size), "torchrun"))
    if _number("SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in os.environ:
        size = _number("SLURM_STEP_NUM_TASKS", 1)
        local_size = _tasks_here(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        rank, local_rank = _number("SLURM_PROCID", 0), _number("SLURM_LOCALID", 0)
        return _checked(Launch(rank, size, local_rank, local_size, "srun"))
    return Launch()


def step_name() -> str:
    """Return what no other step of srun is called that may run on the same machines."""
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return "/".join(os.environ.get(name, "") for name in names)


def meeting_place() -> tuple[str, int]:
    """Return the address and the port where the processes of a command meet.

    MASTER_ADDR and MASTER_PORT, which torchrun sets; else the first machine of a step of srun, at a
    port that follows from the step's name.

    Raises:
        UnavailableError: the first machine's address cannot be found.
        UsageError: MASTER_PORT is no number.
    """
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    address = os.environ.get("MASTER_ADDR") or _address(first_host(nodes))
    port = _PORTS[zlib.crc32(step_name().encode()) % len(_PORTS)]
    return address, _number("MASTER_PORT", port)


def first_host(nodes: str) -> str:
    """Return the first host of a list in SLURM's notation.

    Example:
        >>> first_host("gpu[007-009,12],login1"), first_host("a1"), first_host("r[1-2]n[3-4]")
        ('gpu007', 'a1', 'r1n3')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group() if first else "")


def _address(host: str) -> str:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return _address_by_slurm(host)
    return host


def _address_by_slurm(host: str) -> str:
    """Ask SLURM for a node that goes by a name of SLURM's own."""
    command = ["scontrol", "show", "node", "--oneliner", host]
    try:
        told = subprocess.run(  # noqa: S603  the host's name comes from SLURM
            command, capture_output=True, text=True, timeout=30, check=False
        )
        found = re.search(r"\bNodeAddr=(\S+)", told.stdout)
    except (OSError, subprocess.SubprocessError):
        found = None
    if found is None:
        raise UnavailableError(
            f"the first node of the step, {host or 'which SLURM does not name'}, has no known "
            "address: set MASTER_ADDR"
        )
    return found.group(1)


def _tasks_here(tasks_per_node: str) -> int:
    """Return how many tasks the machine has at most, of a list such as ``2(x3),1``."""
    counts = [int(n) for n in re.findall(r"(\d+)(?:\(x\d+\))?", tasks_per_node)]
    return max(counts, default=1)


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    if not text.isdecimal():
        raise UsageError(f"{name}={text}: expected a number from 0 on, as torchrun and srun set it")
    return int(text)


def _checked(launch: Launch) -> Launch:
    if not (0 <= launch.rank < launch.size and launch.local_rank < launch.size):
        raise UsageError(
            f"{launch.launcher} says that this is process {launch.rank} of {launch.size}: the "
            f"environment is inconsistent ({SWITCH}=0 ignores it)"
        )
    return launch
