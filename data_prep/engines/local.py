"""The engine of one machine: several processes, none of which outlives the command.

Processes are spawned, not forked, so a progress bar's thread in this process cannot hang them.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

from data_prep.engines.base import Item, Result
from data_prep.errors import DataError
from data_prep.workers import default_workers, keep_freed_memory


@dataclass(frozen=True)
class Local:
    """See base.Engine."""

    workers: int = 0  # processes; 0: one a core. Few items are done in this process.

    def map(self, function: Callable[[Item], Result], items: Sequence[Item], chunk: int = 64) -> Iterator[Result]:
        workers = min(self.workers or default_workers(), -(-len(items) // chunk))
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


LOCAL = Local()


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
