"""The index of a tree's segments: a window of a picture costs one read of its rows, and no file is searched.

ROOT/train.crops.npy: a record for each picture of the index. ROOT/train.segments.npy: uint16, picture after picture,
the lengths of its segments and a checksum for each row of them. Both are memory-mapped and covered by the manifest.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isal.isal_zlib import crc32  # that of zlib, in an eighth of its time

from data_prep.crops.cutting import Piece, Window, assembled, grid_of, rows_of
from data_prep.crops.layout import Layout, NoCut, layout_of
from data_prep.errors import DataError
from data_prep.files import NPZ_ERRORS, write_npy
from data_prep.formats.file_names import printable
from data_prep.formats.manifest import Manifest, Split, check_files, how_to_make, load_manifest
from dawn.commandline import quoted
from dawn.filekind import wrong_kind

LONGEST = 0xFFFF  # bytes of a segment
NEAR = 1 << 15  # bytes: rows that begin before are read together with the head, in one call of the system
WORDS = 1 << 20  # copied at a time


class Entry(NamedTuple):
    """What the index knows of a file. One that cannot be cut has zeros but for its size."""

    bytes: int
    head_sum: int = 0  # CRC-32 of the head
    height: int = 0
    width: int = 0
    segment_height: int = 0
    segment_width: int = 0
    head: int = 0
    size_at: int = 0


FIELDS = zip(Entry._fields, ("<i8", "<u4", "<u2", "<u2", "<i4", "<i4", "<u2", "<u2"), strict=True)
RECORD = np.dtype([("first", "<i8"), *FIELDS])  # first: of the picture's words in the segments


@dataclass(frozen=True)
class SegmentIndex:
    root: Path
    records: np.ndarray  # (N,) RECORD
    words: (
        np.ndarray
    )  # (M,) uint16: lengths of segments, and as two words each the CRC-32 of the file up to a row's end

    def piece(self, path: bytes, row: int, window: Window | None) -> Piece | None:
        """`window` (top, left, height, width in pixels) of the picture `row`, cut out of its file at `path`; None for
        one that cannot be cut, or if no window is asked for.

        Raises: DataError for a file that has changed since it was indexed. If nothing is cut, that is one of another
        size or with another head: to look at all of it would cost a second reading.
        """
        first, *facts = self.records[row].item()
        entry = Entry(*facts)
        try:
            if not (entry.head and window):
                _read(path, entry, 0, 0)
                return None
            return _piece(path, entry, *self._layout(entry, first), window)
        except DataError as error:
            raise DataError(
                f"{printable(path)}: {error}. See what else differs: python -m data_prep check {quoted(self.root)}"
            ) from None

    def file_sum(self, row: int) -> int | None:
        """CRC-32 of the picture's whole file; None for one that cannot be cut. Raises: DataError."""
        first, *facts = self.records[row].item()
        entry = Entry(*facts)
        return int(self._layout(entry, first)[1][-1]) if entry.head else None

    def _layout(self, entry: Entry, first: int) -> tuple[Layout, np.ndarray]:
        """The layout, and the checksums, (rows,) uint32."""
        rows, columns = -(-entry.height // entry.segment_height), -(-entry.width // entry.segment_width)
        segments = rows * columns
        words = self.words[first : first + segments + 2 * rows]
        offsets = np.empty(segments + 1, np.int64)
        offsets[0] = entry.head
        offsets[1:] = words[:segments]
        offsets.cumsum(out=offsets)
        if offsets[-1] != entry.bytes:
            raise DataError("the index of its segments is damaged")
        layout = Layout(
            entry.height, entry.width, entry.segment_height, entry.segment_width, entry.head, entry.size_at, offsets
        )
        return layout, words[segments:].view("<u4")


def _piece(path: bytes, entry: Entry, layout: Layout, sums: np.ndarray, window: Window) -> Piece:
    grid = grid_of(layout, window)
    head, rows = _read(path, entry, *rows_of(layout, grid))
    if crc32(rows, int(sums[grid.top - 1]) if grid.top else entry.head_sum) != int(sums[grid.bottom - 1]):
        raise DataError("other pixels than when its segments were indexed")
    return assembled(layout, grid, head, rows, window)


def _read(path: bytes, entry: Entry, start: int, end: int) -> tuple[memoryview, memoryview]:
    """The head, and the bytes from `start` to `end`. Raises: DataError for another size or head than the entry's."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            found = os.fstat(file).st_size
            if found != entry.bytes:
                raise DataError(f"{found} bytes, the index of its segments says {entry.bytes}")
            if start < NEAR:
                data = memoryview(os.pread(file, max(entry.head, end), 0))
                head, rows = data[: entry.head], data[start:end]
            else:
                head, rows = (memoryview(os.pread(file, *part)) for part in ((entry.head, 0), (end - start, start)))
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(error.strerror) from None
    if crc32(head) != entry.head_sum:
        raise DataError("another head than when its segments were indexed")
    return head, rows


def entry_of(data: bytes) -> tuple[Entry, bytes]:
    """The entry of a file, and its words. Raises: NoCut."""
    layout = layout_of(data)
    lengths = np.diff(layout.offsets)
    if lengths.max() > LONGEST:
        raise NoCut("segments of more than 64 KB")
    head_sum = crc32(data[: layout.head])
    sums = [head_sum]
    for start, end in pairwise(layout.offsets[:: layout.columns].tolist()):
        sums.append(crc32(data[start:end], sums[-1]))
    words = lengths.astype("<u2").tobytes() + np.array(sums[1:], "<u4").tobytes()
    return Entry(len(data), head_sum, *layout[:6]), words


def segment_names(split: str) -> list[str]:
    """File names of a split: records, segments."""
    return [f"{split}.crops.npy", f"{split}.segments.npy"]


def write_segments(folder: Path, split: str, count: int, entries: Iterable[tuple[Entry, bytes]]) -> None:
    """Write the index of `count` pictures into `folder`. Memory holds the records, the segments go through a file."""
    records, place = np.zeros(count, RECORD), 0
    records_name, segments_name = segment_names(split)
    raw = folder / f"{segments_name}.tmp"
    with open(raw, "wb") as file:
        for row, (entry, words) in enumerate(entries):
            records[row] = (place, *entry)
            file.write(words)
            place += len(words) // 2
    write_npy(folder / segments_name, (place,), np.uint16, _blocks(raw))
    write_npy(folder / records_name, (count,), RECORD, [records])
    raw.unlink()


def _blocks(raw: Path) -> Iterator[np.ndarray]:
    with open(raw, "rb") as file:
        while data := file.read(2 * WORDS):
            yield np.frombuffer(data, "<u2")


def has_segments(manifest: Manifest, splits: Sequence[str]) -> bool:
    return all(set(segment_names(split)) <= set(manifest.splits[split].files) for split in splits)


def open_segments(root: str | Path, splits: Sequence[str] = ("train", "validation")) -> dict[str, SegmentIndex]:
    """The segments of `splits`. The records' SHA-256 is compared with the manifest, of the segments only the size: each
    is checked when it is used. Raises: DataError."""
    root, manifest = Path(root), load_manifest(root)
    names = {split: segment_names(split) for split in splits}
    if not has_segments(manifest, splits):
        raise DataError(f"{root}: no index of segments ({names[splits[0]][0]}). {how_to_make(root, manifest.name)}")
    check_files(root, manifest, True, {pair[0] for pair in names.values()})
    check_files(root, manifest, False, {pair[1] for pair in names.values()})
    return {split: _open(root, split, manifest.splits[split], manifest.name) for split in splits}


def _open(root: Path, split: str, facts: Split, name: str) -> SegmentIndex:
    places = [root / file for file in segment_names(split)]
    try:
        arrays = [np.load(place, mmap_mode="r", allow_pickle=False) for place in places]
    except NPZ_ERRORS as error:
        reason = next((kind for place in places if (kind := wrong_kind(place, "npy"))), "not readable as an array")
        raise DataError(f"{places[0]} or its segments: {reason}. {how_to_make(root, name)}") from error
    index = SegmentIndex(root, *(array.view(np.ndarray) for array in arrays))  # a memmap's own slices are slow
    if not _fits(index, facts.images):
        raise DataError(f"{places[0]}: does not fit the manifest or its segments. {how_to_make(root, name)}")
    return index


def _fits(index: SegmentIndex, images: int) -> bool:
    """Every picture has its words, one after another."""
    records, words = index.records, index.words
    if (records.dtype, records.shape, words.dtype, words.ndim) != (RECORD, (images,), np.uint16, 1):
        return False
    one = records[records["head"] > 0]
    if not ((one["segment_height"] > 0) & (one["segment_width"] > 0) & (one["height"] > 0) & (one["width"] > 0)).all():
        return False
    rows = -(-one["height"].astype(np.int64) // one["segment_height"])
    counts = np.zeros(images, np.int64)
    counts[records["head"] > 0] = rows * -(-one["width"].astype(np.int64) // one["segment_width"]) + 2 * rows
    ends = np.cumsum(counts)
    return bool((records["first"] == ends - counts).all() and ends[-1] == len(words))
