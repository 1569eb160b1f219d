"""Resident memory of processes, and its peak."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import suppress

MIB = 1 << 20


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        pass
    if sys.platform == "linux":
        return 0
    shown = subprocess.run(  # noqa: S603  a number is its only argument
        ["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return int(shown.stdout.strip() or 0) * 1024


def reset_peak() -> None:
    """Let `peak` count from now on, where the system can (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak() -> int:
    """Return the highest resident memory of this process in bytes.

    On Linux since `reset_peak`. Not `ru_maxrss` there: a new process inherits it from the one that
    started it.
    """
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
