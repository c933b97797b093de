"""Reuse of freed memory on Linux CPUs."""

import ctypes
import sys

M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8  # mallopt(3)


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
    return all(
        mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    )
