"""Resident memory of processes, and its peak."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

import psutil

MIB = 1 << 20


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


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
