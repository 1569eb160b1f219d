"""Settings of the process that computing profits from."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>


def reuse_memory() -> bool:
    """Make the C library keep freed memory instead of returning it to the system.

    A training step allocates and frees the same large buffers. By default glibc maps and unmaps
    each of them, and every page is faulted in and zeroed anew, which can cost more than the
    arithmetic done in it (see docs/results/speed.md). Costs nothing but that the process holds on
    to its peak memory. Returns whether it took effect: elsewhere than on glibc it does nothing.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
