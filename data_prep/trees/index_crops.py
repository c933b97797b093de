"""ROOT -> ROOT-crops: the same images, their JPEG files laid out anew so that windows can be cut out of the bytes.

Lossless: the coefficients stay, only their coding changes. A restart marker follows each MCU, so the least is decoded
beside a window. The pixels of every file are compared with the original's, the coefficients of a sample, and one cut of
every file. What cannot be laid out is copied as it is. Killed and called again as `resize` (making.py, shards.py).
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg

from data_prep.crops.cutting import cut
from data_prep.crops.layout import NoCut, frame_of, layout_of
from data_prep.crops.segments import Entry, entry_of, has_segments, open_segments, segment_names, write_segments
from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.manifest import Manifest, check_files
from data_prep.formats.pictures import picture_facts
from data_prep.progress import tracked
from data_prep.stores import Remote, disk_of, kept_beside, mark, read
from data_prep.trees.jpegtran import JpegtranStopped, jpegtran_version, same_coefficients, with_segments
from data_prep.trees.making import Job, Made, content, make_missing, put
from data_prep.trees.shards import begin, complete, lost_again
from data_prep.trees.source_tree import Source, crops_root

SAMPLE = 64  # of one file in so many the coefficients are compared: two more runs of jpegtran
WORDS = {"no restart markers": "damaged or irregular"}  # jpegtran complains of them: all others have been laid out
CHUNK = 64  # files read by a process at a time


@dataclass(frozen=True)
class CropRule:
    """How the files are laid out. See shards.Making."""

    made_with: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        return ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    def words(self, copy: Path) -> str:
        return "laid out for cuts"

    def write_beside(
        self, copy: Path, pictures: Path | Remote, indices: dict[str, ImageIndex], engine: Engine
    ) -> dict[str, list[str]]:
        """Write the index of the segments, from the files that lie there."""
        reasons: Counter[str] = Counter()
        for split, index in indices.items():
            _index_split(copy, pictures, split, index, engine, reasons)
        told = ", ".join(f"{count:,} {WORDS.get(reason, reason)}" for reason, count in reasons.most_common())
        images = sum(len(index.paths) for index in indices.values())
        print(
            f"{pictures}: {images - reasons.total():,} of {images:,} images can be cut"
            + (f"; copied as they are: {told}" if told else "")
        )
        return {split: segment_names(split) for split in indices}

    def check_beside(self, copy: Path, manifest: Manifest) -> None:
        """Raises: DataError."""
        open_segments(copy)
        check_files(copy, manifest, True, {name for split in manifest.splits for name in segment_names(split)})


def index_crops(root: str | Path | Remote, engine: Engine = LOCAL) -> Manifest:
    """Make ROOT-crops, in a store where ROOT lies there; done at once when it is there. May be killed and called again.

    Raises: DataError when `root` is not indexed or has changed, when jpegtran is missing, or for another copy there.
    """
    source, rule = Source.open(root), CropRule(made_with=jpegtran_version())
    if has_segments(source.manifest, tuple(source.indices)):
        raise DataError(f"{source.root}: is laid out for cuts already. Give the images that it was made of")
    pictures, segments = crops_root(root), [name for split in source.indices for name in segment_names(split)]
    with disk_errors(disk_of(pictures)), ExitStack() as held:
        copy = held.enter_context(kept_beside(pictures, segments))
        begun = begin(copy, source, rule, (1, 1), held, pictures)
        if isinstance(begun, Manifest):
            return begun
        mark(pictures, copy)
        job = Job(source.root, (copy,), (begun,), (pictures,))
        make_missing(job, source, partial(_make, job, rule), "laying out for cuts", engine)
        manifest, missing = complete(copy, source, rule, engine, pictures)
    if manifest is None:
        raise lost_again(pictures, missing)
    return manifest


def _make(job: Job, rule: CropRule, image: tuple[bytes, int]) -> list[Made]:
    """In a worker: an image (path, bytes) laid out, or as it is."""
    if jpegtran_version() != rule.made_with:
        raise DataError(f"a machine has {jpegtran_version()}, the first {rule.made_with}. Install the same on all.")
    path, length = image
    data = content(job, path, length)
    facts = picture_facts(data, os.fsdecode(path))
    try:
        made = laid_out(data, zlib.crc32(path) % SAMPLE == 0) or data
    except JpegtranStopped as reason:
        again = "Run the same command again, with fewer --workers"
        raise DataError(f"{job.root}/{printable(path)}: {reason}. {again}") from None
    put(job, path, [made])
    return [(facts.width, facts.height, len(made), 0)]


def laid_out(data: bytes, sampled: bool = True) -> bytes | None:
    """A file with a segment for each MCU, proved to be the same picture; None where there is none: of another kind,
    damaged or irregular. `sampled`: compare the coefficients, too. Raises: JpegtranStopped."""
    try:
        frame_of(data)  # jpegtran would lay out other kinds, too, and change their coding more
        made = with_segments(data)
        if made is None:
            return None
        same = _same_pixels(data, made) and (not sampled or same_coefficients(data, made))
        return made if same else None
    except (NoCut, ValueError):  # NoCut: another kind of file; ValueError: damage that a decoder tells
        return None


def _same_pixels(data: bytes, made: bytes) -> bool:
    """Every pixel of the two files, and of the middle half cut out of the second."""
    whole, layout = simplejpeg.decode_jpeg(data), layout_of(made)
    height, width = -(-layout.height // 2), -(-layout.width // 2)
    top, left = layout.height // 4, layout.width // 4
    piece = cut(made, layout, (top, left, height, width))
    y, x = piece.window[:2]
    middle = simplejpeg.decode_jpeg(piece.data)[y : y + height, x : x + width]
    return np.array_equal(simplejpeg.decode_jpeg(made), whole) and np.array_equal(
        middle, whole[top : top + height, left : left + width]
    )


def _index_split(
    copy: Path, pictures: Path | Remote, split: str, index: ImageIndex, engine: Engine, reasons: Counter[str]
) -> None:
    """Write the index of a split's segments; why files cannot be cut is counted in `reasons`."""
    work = copy / PARTIAL / "segments"
    work.mkdir(parents=True, exist_ok=True)
    paths = index.paths.tolist()
    found = engine.map(partial(_entry, pictures), paths, CHUNK)
    found = tracked(found, f"indexing the segments of {split}", len(paths))
    write_segments(work, split, len(paths), _counted(found, reasons))
    for name in segment_names(split):
        os.replace(work / name, copy / name)


def _counted(found: Iterator, reasons: Counter[str]) -> Iterator[tuple[Entry, bytes]]:
    for entry, words, reason in found:
        if reason:
            reasons[reason] += 1
        yield entry, words


def _entry(pictures: Path | Remote, path: bytes) -> tuple[Entry, bytes, str]:
    """In a worker: the entry of a file, its words, and why it cannot be cut."""
    data = read(pictures, path)
    try:
        return *entry_of(data), ""
    except NoCut as reason:
        return Entry(len(data)), b"", str(reason)
