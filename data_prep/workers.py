"""The processes of this machine: how many there may be, and how they keep memory."""

import ctypes
import os
import sys

M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8  # mallopt(3)


def default_workers() -> int:
    """Cores that this process may use; all of them where the system does not tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks in its heap instead of returning them to the system: each training step, or each
    decoded picture, frees and asks for the same large blocks again, and the page faults of fresh ones cost a CPU run
    a tenth of its time (benchmarks/allocator.py).

    True when the C library took it; other systems are left as they are. Affects this process only.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    # A training step: 1.134 times the images/s (1.112 to 1.212, 7 pairs on two cores).
    return all(
        mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    )


def return_freed_memory() -> bool:
    """Give back to the system what glibc keeps of freed blocks. True when the C library has malloc_trim(3)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return False
    return True
