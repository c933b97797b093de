"""What a resize has finished so far: one fixed-size record for each copy, appended after the file is in place.

A kill can only tear the last record. Records are found by a hash of the path, so they stay valid when the source loses
or gains other images. Arrays on disk, never pickle. Beside them a note for each copy, of any length: what its index of
segments will say.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np

NAME, NOTES = "copies.journal", "copies.notes"
RECORD = np.dtype(
    [
        *(("path", "<u8"), ("source", "<i8"), ("width", "<i4"), ("height", "<i4"), ("bytes", "<i8"), ("kind", "<i4")),
        *(("shard", "<i4"), ("note", "<i8"), ("note_bytes", "<i4")),
    ]
)  # source, bytes: sizes of the two files; kind: place in shrink.KINDS; shard: 2 ** 16 * i + n of i/n; note: its place


class Made(NamedTuple):
    """A copy."""

    width: int
    height: int
    bytes: int
    kind: int
    note: bytes = b""


@dataclass(frozen=True)
class Journal:
    """Of one shard, open to be added to. Every write is in the file at once, whole or torn."""

    shard: int
    records: RawIOBase
    notes: BufferedWriter

    def noted(self, copies: Sequence[tuple[int, int, Made]]) -> list[bytes]:
        """The records of copies (hash of the path, bytes of the source, copy), whose notes are written now."""
        places = []
        for path, source, (*facts, note) in copies:
            places.append((path, source, *facts, self.shard, self.notes.tell(), len(note)))
            self.notes.write(note)
        self.notes.flush()
        return [record.tobytes() for record in np.array(places, RECORD)]

    def add(self, records: Iterable[bytes]) -> None:
        for record in records:
            self.records.write(record)


def path_hashes(paths: Iterable[bytes]) -> np.ndarray:
    """(N,) uint64"""
    digests = (hashlib.blake2b(path, digest_size=8).digest() for path in paths)
    return np.frombuffer(b"".join(digests), "<u8")


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """The journal of the shard `folder`."""
    first, _, count = folder.name.partition("-of-")
    with open(folder / NAME, "ab", buffering=0) as records, open(folder / NOTES, "ab") as notes:
        records.truncate(records.tell() // RECORD.itemsize * RECORD.itemsize)  # a record that a kill has torn
        yield Journal(int(first) << 16 | int(count), records, notes)


def read(folder: Path) -> np.ndarray:
    """All whole records of all shards' journals in `folder`, the latest of each path, sorted by path hash."""
    parts = [np.zeros(0, RECORD)]
    for path in sorted(folder.glob(f"*-of-*/{NAME}"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        parts.append(np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD))
    records = np.concatenate(parts)[::-1]
    _, first = np.unique(records["path"], return_index=True)
    return records[first]


def lookup(records: np.ndarray, hashes: np.ndarray, source_bytes: np.ndarray) -> np.ndarray:
    """Position in `records` of every path, -1 where there is none or the source has another size.  (N,) int64"""
    if not len(records):
        return np.full(len(hashes), -1)
    found = np.minimum(np.searchsorted(records["path"], hashes), len(records) - 1)
    fits = (records["path"][found] == hashes) & (records["source"][found] == source_bytes)
    return np.where(fits, found, -1)


@dataclass(frozen=True)
class Notes:
    """Those of the copies with these records, in `folder`."""

    folder: Path
    records: np.ndarray

    def __iter__(self) -> Iterator[bytes]:
        """b"" where there is none, or no longer."""
        columns = (self.records[name].tolist() for name in ("shard", "note", "note_bytes"))
        with ExitStack() as files:
            shards = {shard: self._opened(shard, files) for shard in np.unique(self.records["shard"]).tolist()}
            for shard, start, length in zip(*columns, strict=True):
                note = os.pread(shards[shard], length, start) if length and shards[shard] is not None else b""
                yield note if len(note) == length else b""

    def _opened(self, shard: int, files: ExitStack) -> int | None:
        path = self.folder / f"{shard >> 16}-of-{shard & 0xFFFF}" / NOTES
        return files.enter_context(open(path, "rb")).fileno() if path.exists() else None
