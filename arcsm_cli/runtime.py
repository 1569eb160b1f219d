"""Settings of the process that computing profits from, and what its processor cannot do."""

from __future__ import annotations

import ctypes
import sys

from arcsm_cli.notices import note

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


def lowered(precision: str | None, device: str) -> bool:
    """Return whether a precision is ``bf16``, and say so where the processor only emulates it.

    A CPU without instructions for bfloat16 takes up to fifty times as long for a product as in
    single precision.
    """
    if precision != "bf16":
        return False
    if device.startswith("cpu"):
        import torch

        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            note("this processor has no bfloat16: --precision bf16 is many times slower than fp32")
    return True
