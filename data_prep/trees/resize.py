"""ROOT -> ROOT-sz/160, ROOT-sz/320: the same images in the same order, short side to that many pixels.

All sizes are made from one decoding, in several processes. Every copy is written to a temporary file, renamed into
place, then recorded (journal.py), so the same command goes on after a kill at any point; shards.py makes the copies
whole. Nothing of ROOT is changed, but for its index with --skip-bad.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files import disk_errors
from data_prep.formats.file_names import printable
from data_prep.formats.manifest import Manifest
from data_prep.progress import tracked
from data_prep.trees import journal
from data_prep.trees.adopt import BAD_FILES, Problem, write_problems
from data_prep.trees.shards import begin, complete, standing
from data_prep.trees.shrink import Rule, shrink
from data_prep.trees.source_tree import Source, copy_root
from data_prep.workers import Rows, in_processes
from dawn.commandline import quoted

LARGEST = 4096  # px, of --sizes
CHUNK = 16  # images of one task: what a kill can lose in each process


@dataclass(frozen=True)
class Job:
    """What every process is told."""

    root: Path
    sizes: tuple[int, ...]
    copies: tuple[Path, ...]  # ROOT-sz/160, ...
    places: tuple[Path, ...]  # their folders for temporary files
    rule: Rule


def resize_tree(
    root: str | Path,
    sizes: list[int],
    workers: int = 0,
    rule: Rule | None = None,
    shard: tuple[int, int] = (1, 1),
    skip_bad: bool = False,
) -> dict[int, Manifest]:
    """Make the copies of `root` for all `sizes`; done at once when they are there. May be killed and called again.

    `shard` (2, 4): only every fourth image, from the second on; the last shard to end makes the copies whole.
    Returns the manifests of the copies that are whole, by size. DataError when an image cannot be decoded.
    """
    _check_sizes(sizes)
    rule, source = rule or Rule(), Source.open(root)
    copies = {size: copy_root(root, size) for size in sorted(set(sizes))}
    with disk_errors(copies[sizes[0]].parent), ExitStack() as locks:
        whole = {size: begin(copy, source, rule, shard, locks) for size, copy in copies.items()}
        places = {size: place for size, place in whole.items() if isinstance(place, Path)}
        if places:
            job = Job(source.root, tuple(places), tuple(copies[size] for size in places), tuple(places.values()), rule)
            bad = _make_all(job, source, workers, shard)
            if bad:
                source = _without(bad, job, source, skip_bad)
            whole |= {size: _end(copies[size], source, rule) for size in places}
    return {size: manifest for size, manifest in whole.items() if manifest}


def _check_sizes(sizes: list[int]) -> None:
    for size in sizes:
        if not 1 <= size <= LARGEST:
            raise DataError(f"--sizes {size}: choose 1 to {LARGEST} pixels")


def _make_all(job: Job, source: Source, workers: int, shard: tuple[int, int]) -> list[Problem]:
    """Make and record every copy of this shard that is missing. Returns the images that cannot be decoded."""
    hashes = journal.path_hashes(source.paths)
    missing = np.any([standing(copy, source, hashes)["bytes"] < 0 for copy in job.copies], axis=0)
    mine = np.arange(len(missing)) % shard[1] == shard[0] - 1
    rows, total = np.flatnonzero(missing & mine), int(mine.sum())
    for copy in job.copies:
        for folder in {os.path.dirname(path) for path in source.paths.tolist()}:
            os.makedirs(os.path.join(os.fsencode(copy), folder), exist_ok=True)
    made = in_processes(partial(_make, job), Rows(source.paths[rows], source.bytes[rows]), workers, CHUNK)
    made = _recorded(job, hashes[rows], source.bytes[rows], made)
    title = f"resizing to {' and '.join(map(str, job.sizes))} px"
    results = tracked(made, title, total, total - len(rows), rate="images")
    return [
        Problem(source.paths[row], result) for row, result in zip(rows, results, strict=True) if isinstance(result, str)
    ]


def _recorded(job: Job, hashes: np.ndarray, lengths: np.ndarray, results: Iterator) -> Iterator:
    """Pass `results` on, each when it is in the journals."""
    with ExitStack() as files:
        journals = [files.enter_context(journal.opened(place)) for place in job.places]
        for path, length, made in zip(hashes, lengths, results, strict=True):
            if not isinstance(made, str):
                for number, file in enumerate(journals):
                    file.write(np.array((path, length, *made[number]), journal.RECORD).tobytes())
            yield made


def _make(job: Job, image: tuple[bytes, int]) -> list[tuple[int, int, int, int]] | str:
    """In a worker: width, height, bytes and kind of each copy of an image (path, bytes), or why there is none."""
    path, length = image
    file = os.path.join(os.fsencode(job.root), path)
    with open(file, "rb") as handle:
        data = handle.read()
    if len(data) != length:
        raise DataError(
            f"{printable(file)} has {len(data)} bytes, the index says {length}. See what else differs: "
            f"python -m data_prep check {quoted(job.root)}"
        )
    try:
        copies = shrink(data, printable(path), job.sizes, job.rule)
    except DataError as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    for copy, place, made in zip(job.copies, job.places, copies, strict=True):
        temporary = place / f"{os.getpid()}.tmp"
        temporary.write_bytes(made.data)
        os.replace(temporary, os.path.join(os.fsencode(copy), path))
    return [(made.width, made.height, len(made.data), made.kind) for made in copies]


def _without(bad: list[Problem], job: Job, source: Source, skip_bad: bool) -> Source:
    """The source without the bad images, when the user wants that. Else DataError; what is made stays.

    They leave the index of the source too: a tree and its copies must hold the same images.
    """
    for folder in (source.root,) if skip_bad else job.copies:
        write_problems(folder, bad)
    if skip_bad:
        print(
            f"LEFT OUT of {source.root} and its copies: {len(bad):,} bad images, listed in {source.root / BAD_FILES}",
            file=sys.stderr,
        )
        return source.without({problem.path for problem in bad})
    raise DataError(
        f"{source.root}: {len(bad):,} of {len(source.paths):,} images cannot be decoded, all listed in "
        f"{job.copies[0] / BAD_FILES}; the first is {bad[0]}. Replace them and index the folder again, or "
        "leave them out of it and of the copies with --skip-bad. The same command then goes on."
    )


def _end(copy: Path, source: Source, rule: Rule) -> Manifest | None:
    """The manifest of a copy that is now whole; None while other shards have work to do."""
    manifest, missing = complete(copy, Source.open(source.root), rule)  # another shard may have left out images
    if manifest is None:
        print(f"{copy}: this shard is done, {missing:,} images are left to the others")
    return manifest
