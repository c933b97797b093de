"""What a resize has finished so far: one fixed-size record for each copy, appended after the file is in place.

A kill can only tear the last record. Records are found by a hash of the path, so they stay valid when the source loses
or gains other images. Arrays on disk, never pickle.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import numpy as np

NAME = "copies.journal"
RECORD = np.dtype(
    [("path", "<u8"), ("source", "<i8"), ("width", "<i4"), ("height", "<i4"), ("bytes", "<i8"), ("kind", "<i4")]
)  # source, bytes: sizes of the two files; kind: place in shrink.KINDS


def path_hashes(paths: Iterable[bytes]) -> np.ndarray:
    """(N,) uint64"""
    digests = (hashlib.blake2b(path, digest_size=8).digest() for path in paths)
    return np.frombuffer(b"".join(digests), "<u8")


@contextmanager
def opened(folder: Path) -> Iterator[RawIOBase]:
    """The journal of the shard `folder`, to append records to. Every write is in the file at once, whole or torn."""
    with open(folder / NAME, "ab", buffering=0) as file:
        file.truncate(file.tell() // RECORD.itemsize * RECORD.itemsize)  # a record that a kill has torn
        yield file


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
