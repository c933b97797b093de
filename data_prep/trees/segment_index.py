"""The index of a tree's segments, made of what was noted of each file when it was written."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.crops.layout import NoCut
from data_prep.crops.segments import RECORD, Entry, entry_of, open_segments, segment_names, write_segments
from data_prep.engines.base import Engine
from data_prep.files import PARTIAL
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.manifest import Manifest, check_files
from data_prep.progress import tracked
from data_prep.stores import Remote, read

CHUNK = 64  # files read by a process at a time
Notes = Iterable[bytes]  # of the files of a split, b"" where there is none; gone through twice


def note_of(data: bytes) -> bytes:
    """What the index will say of a file: its record, and its words or why it cannot be cut."""
    try:
        entry, rest = entry_of(data)
    except NoCut as reason:
        entry, rest = Entry(len(data)), str(reason).encode()
    return np.array((0, *entry), RECORD).tobytes() + rest


def index_segments(
    copy: Path, pictures: Path | Remote, indices: dict[str, ImageIndex], notes: Mapping[str, Notes], engine: Engine
) -> tuple[int, Counter[str]]:
    """Write the index of the files at `pictures` into `copy`. Those without a note are read, in the processes of the
    engine. Returns how many can be cut, and why others cannot, counted. Raises: DataError."""
    reasons: Counter[str] = Counter()
    for split, index in indices.items():
        paths, work = index.paths.tolist(), copy / PARTIAL / "segments"
        work.mkdir(parents=True, exist_ok=True)
        unknown = [path for path, note in zip(paths, notes[split], strict=True) if not note]
        read_again = iter(engine.map(partial(_read_note, pictures), unknown, CHUNK))
        found = (note or next(read_again) for note in notes[split])
        found = tracked(found, f"indexing the segments of {split}", len(paths))
        write_segments(work, split, len(paths), _entries(found, reasons))
        for name in segment_names(split):
            os.replace(work / name, copy / name)
    return sum(len(index.paths) for index in indices.values()) - reasons.total(), reasons


def check_segments(copy: Path, manifest: Manifest) -> None:
    """Raises: DataError for an index of segments that is missing or damaged."""
    open_segments(copy)
    check_files(copy, manifest, True, {name for split in manifest.splits for name in segment_names(split)})


def _read_note(pictures: Path | Remote, path: bytes) -> bytes:
    """In a worker."""
    return note_of(read(pictures, path))


def _entries(notes: Iterable[bytes], reasons: Counter[str]) -> Iterator[tuple[Entry, bytes]]:
    """Entries and words; why files cannot be cut is counted in `reasons`."""
    for note in notes:
        _, *facts = np.frombuffer(note, RECORD, 1)[0].item()
        entry, rest = Entry(*facts), note[RECORD.itemsize :]
        if not entry.head:
            reasons[rest.decode()] += 1
        yield entry, rest if entry.head else b""
