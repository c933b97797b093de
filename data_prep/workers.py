"""One function over many items in several processes: results in order, and no process outlives the command.

Processes are spawned, not forked, so a progress bar's thread in this process cannot hang them.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

import numpy as np

from data_prep.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8  # mallopt(3)


class Rows(Sequence):
    """Rows of arrays of one length, as tuples of plain values, made when they are taken: a list would be large."""

    def __init__(self, *columns: np.ndarray):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int | slice) -> tuple | list[tuple]:
        if isinstance(place, slice):
            return list(zip(*(column[place].tolist() for column in self.columns), strict=True))
        return tuple(column[place].item() for column in self.columns)


def default_workers() -> int:
    """Cores that this process may use; all of them where the system does not tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0, chunk: int = 64
) -> Iterator[Result]:
    """`function` of every item, in order. `workers` 0: one process a core; few items are done in this process.

    `function` must be importable by name. An exception of it is raised here. DataError when a process is killed.
    """
    workers = min(workers or default_workers(), -(-len(items) // chunk))
    if workers <= 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    chunks = ((function, items[start : start + chunk]) for start in range(0, len(items), chunk))
    try:
        pending = deque(pool.submit(_run_chunk, *next_one) for next_one in islice(chunks, 4 * workers))
        while pending:
            done = pending.popleft().result()
            pending.extend(pool.submit(_run_chunk, *next_one) for next_one in islice(chunks, 1))
            yield from done
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps for memory. Run the same command again, with fewer --workers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _run_chunk(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it is gone (killed: nobody else would tell)."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


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
