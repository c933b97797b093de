"""Memory and processor time of a process and everything it has started, from /proc (Linux)."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

EVERY = 0.05  # seconds between two looks
MIB = 2**20


class Memory(NamedTuple):
    """Bytes. Memory of its own, and pages of files (libraries too), which the system may drop."""

    own: int
    files: int

    @property
    def total(self) -> int:
        return self.own + self.files


def family(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # has ended
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [pid]
    for member in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == member]
    return found


def memory_of(pid: int) -> Memory:
    """Of a family. What several of it share counts once: own memory by its proportional share (PSS), files as the
    member with most of them maps, so that processes outside the family change nothing."""
    own, files = 0, 0
    for member in family(pid):
        own += kilobytes(member, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))
        files = max(files, kilobytes(member, "status", ("RssFile:",)))
    return Memory(1024 * own, 1024 * files)


def kilobytes(pid: int, name: str, keys: tuple[str, ...]) -> int:
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
    except OSError:  # has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(keys))


def processor_seconds(pid: int) -> float:
    """Of a family so far, with the members that have ended and whose parents know it."""
    ticks = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # has ended
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, and both of waited-for children
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def peak_of(pid: int) -> Iterator[list[Memory]]:
    """A list of one: the largest seen while the block runs."""
    peak, ended = [memory_of(pid)], threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            peak[0] = max(peak[0], memory_of(pid), key=lambda memory: memory.total)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
