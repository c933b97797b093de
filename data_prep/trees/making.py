"""The images of a copy made in several processes: each is written to a temporary file, renamed into place, then
recorded (journal.py), so a kill at any point loses no more than what was under way or made in the last second."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from uuid import uuid4

import numpy as np

from data_prep.engines.base import Engine, Rows
from data_prep.errors import DataError
from data_prep.formats.file_names import printable
from data_prep.progress import tracked
from data_prep.stores import Remote, read, write
from data_prep.trees import journal
from data_prep.trees.adopt import Problem
from data_prep.trees.shards import folders_of, standing
from data_prep.trees.source_tree import Source
from dawn.commandline import quoted

CHUNK = 16  # images of one task: what a kill can lose in each process, beside what is not recorded yet
SECONDS = 1.0  # at least, between two flushes of files to the disk, after which they are recorded
Made = tuple[int, int, int, int]  # width, height, bytes and kind of a copy


@dataclass(frozen=True)
class Job:
    """What every process is told."""

    root: Path | Remote
    copies: tuple[Path, ...]  # ROOT-sz/160, ...; for a store the folders on this machine, see stores.kept_beside
    places: tuple[Path, ...]  # their folders for temporary files
    pictures: tuple[Path | Remote, ...]  # where the images lie


def make_missing(
    job: Job,
    source: Source,
    make: Callable[[tuple[bytes, int]], list[Made] | str],
    title: str,
    engine: Engine,
    shard: tuple[int, int] = (1, 1),
) -> list[Problem]:
    """Make and record every copy of this shard that is missing. `make` puts the copies of an image (path, bytes) in
    place, in a worker; or it says why there are none: these images are returned."""
    hashes = journal.path_hashes(source.paths)
    copies = zip(job.copies, job.pictures, strict=True)
    missing = np.any([standing(copy, source, hashes, at)["bytes"] < 0 for copy, at in copies], axis=0)
    mine = np.arange(len(missing)) % shard[1] == shard[0] - 1
    rows, total = np.flatnonzero(missing & mine), int(mine.sum())
    for at in job.pictures:
        for folder in folders_of(source.paths) if isinstance(at, Path) else ():
            os.makedirs(os.path.join(os.fsencode(at), folder), exist_ok=True)
    made = engine.map(make, Rows(source.paths[rows], source.bytes[rows]), CHUNK)
    made = _recorded(job, hashes[rows], source.bytes[rows], made)
    results = tracked(made, title, total, total - len(rows), rate="images")
    return [
        Problem(source.paths[row], result) for row, result in zip(rows, results, strict=True) if isinstance(result, str)
    ]


def _recorded(job: Job, hashes: np.ndarray, lengths: np.ndarray, results: Iterator) -> Iterator:
    """Pass `results` on. They are recorded some at a time, in a thread: the disk must not hold up the images."""
    with ExitStack() as files:
        journals = [files.enter_context(journal.opened(place)) for place in job.places]
        waiting: list[list[bytes]] = [[] for _ in journals]
        writer, due = files.enter_context(ThreadPoolExecutor(1)), time.monotonic() + SECONDS
        writing = writer.submit(_record, [], [])
        try:
            for path, length, made in zip(hashes, lengths, results, strict=True):
                if not isinstance(made, str):
                    for number, records in enumerate(waiting):
                        records.append(np.array((path, length, *made[number]), journal.RECORD).tobytes())
                if time.monotonic() > due and writing.done():
                    writing.result()  # raises what went wrong: after half a record there must be no other
                    writing, due = writer.submit(_record, journals, waiting), time.monotonic() + SECONDS
                    waiting = [[] for _ in journals]
                yield made
        finally:
            writing.result()
            _record(journals, waiting)


def _record(journals: list[RawIOBase], waiting: list[list[bytes]]) -> None:
    """Append records whose files are in place. The files come to the disk first: after a power cut, which may leave a
    file without its bytes, a record is trusted."""
    if any(waiting):
        os.sync()
    for file, records in zip(journals, waiting, strict=True):
        for record in records:
            file.write(record)


def content(job: Job, path: bytes, length: int) -> bytes:
    """An image of the source. Raises: DataError when it has not the `length` of the index."""
    data = read(job.root, path)
    if len(data) != length:
        command = "adopt" if isinstance(job.root, Remote) else "check"
        raise DataError(
            f"{job.root}/{printable(path)} has {len(data)} bytes, the index says {length}. See what else differs: "
            f"python -m data_prep {command} {quoted(job.root)}"
        )
    return data


def put(job: Job, path: bytes, copies: Sequence[bytes]) -> None:
    """The files of an image into their places. A worker that is taken for lost may still be at the same image, on
    another machine: each has a temporary file of its own, and the last to end puts the same bytes there."""
    for at, place, data in zip(job.pictures, job.places, copies, strict=True):
        write(at, path, data, place / f"{uuid4().hex}.tmp")
