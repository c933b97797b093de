"""ROOT -> ROOT-sz/160, ROOT-sz/320: the same images in the same order, short side to that many pixels.

All sizes are made from one decoding, in several processes (making.py), so the same command goes on after a kill at any
point; shards.py makes the copies whole. Nothing of ROOT is changed, but for its index with --skip-bad.
"""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import disk_errors
from data_prep.formats.file_names import printable
from data_prep.formats.manifest import Manifest
from data_prep.stores import Remote, beside, disk_of, kept_beside, mark
from data_prep.trees.adopt import BAD_FILES, Problem, write_problems
from data_prep.trees.making import Job, Made, content, make_missing, put
from data_prep.trees.shards import begin, complete, lost_again
from data_prep.trees.shrink import Rule, shrink
from data_prep.trees.source_tree import Source, copy_root
from dawn.commandline import quoted

LARGEST = 4096  # px, of --sizes


def resize_tree(
    root: str | Path | Remote,
    sizes: list[int],
    engine: Engine = LOCAL,
    rule: Rule | None = None,
    shard: tuple[int, int] = (1, 1),
    skip_bad: bool = False,
    to: str | Path | None = None,
) -> dict[int, Manifest]:
    """Make the copies of `root` for all `sizes`; done at once when they are there. May be killed and called again.

    `to`: the copies are TO-sz/160 and so on; default: `root`. Both may lie in a store.
    `shard` (2, 4): only every fourth image, from the second on; the last shard to end makes the copies whole.
    Returns the manifests of the copies that are whole, by size. DataError when an image cannot be decoded.
    """
    check_sizes(sizes)
    wait = skip_bad and shard != (1, 1)
    rule, source = rule or Rule(), Source.open(root, wait)
    pictures = {size: copy_root(to or root, size) for size in sorted(set(sizes))}
    check_shard(pictures[sizes[0]], shard)
    _check_names(pictures[sizes[0]], source)
    with disk_errors(disk_of(pictures[sizes[0]])), ExitStack() as held:
        copies = {size: held.enter_context(kept_beside(at)) for size, at in pictures.items()}
        whole = {size: begin(copy, source, rule, shard, held, pictures[size]) for size, copy in copies.items()}
        places = {size: place for size, place in whole.items() if isinstance(place, Path)}
        if places:
            for size in places:
                mark(pictures[size], copies[size])
            columns = (tuple(column[size] for size in places) for column in (copies, places, pictures))
            job = Job(source.root, *columns)
            title = f"resizing to {' and '.join(map(str, places))} px"
            bad = make_missing(job, source, partial(_make, job, rule, tuple(places)), title, engine, shard)
            if bad:
                _leave_out(bad, job, source, skip_bad)
            source = Source.open(source.root, wait)  # another shard may have left out images
            whole |= {size: _end(copies[size], source, rule, pictures[size], shard) for size in places}
    return {size: manifest for size, manifest in whole.items() if manifest}


def check_sizes(sizes: list[int]) -> None:
    """Raises: DataError."""
    for size in sizes:
        if not 1 <= size <= LARGEST:
            raise DataError(f"--sizes {size}: choose 1 to {LARGEST} pixels")


def check_shard(pictures: Path | Remote, shard: tuple[int, int]) -> None:
    """Raises: DataError for shards that would share a store: their records are on a disk of each machine."""
    if isinstance(pictures, Remote) and shard != (1, 1):
        raise DataError(
            f"--shard {shard[0]}/{shard[1]}: shards share a disk, not a store. Use --engine ray for {pictures}"
        )


def _check_names(pictures: Path | Remote, source: Source) -> None:
    """Raises: DataError for files whose names a store cannot have: there they are text in UTF-8."""
    if isinstance(pictures, Path):
        return
    bad = [path for path in source.paths.tolist() if path.decode(errors="ignore").encode() != path]
    if bad:
        raise DataError(
            f"{source.root}: {len(bad):,} names of files are not UTF-8, as names in a store must be; the first is "
            f"{printable(bad[0])}. Rename them and index the folder again: python -m data_prep adopt "
            f"{quoted(source.root)} --again"
        )


def _make(job: Job, rule: Rule, sizes: tuple[int, ...], image: tuple[bytes, int]) -> list[Made] | str:
    """In a worker: put the copies of an image (path, bytes) in place, or say why there are none."""
    path, length = image
    data = content(job, path, length)
    try:
        copies = shrink(data, printable(path), sizes, rule)
    except DataError as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    put(job, path, [made.data for made in copies])
    return [(made.width, made.height, len(made.data), made.kind) for made in copies]


def _leave_out(bad: list[Problem], job: Job, source: Source, skip_bad: bool) -> None:
    """Take the bad images out of the index of the source, when the user wants that: a tree and its copies must hold the
    same images. Else DataError; what is made stays."""
    if skip_bad:
        with beside(source.root) as folder:
            write_problems(folder, bad)
        print(
            f"LEFT OUT of {source.root} and its copies: {len(bad):,} bad images, listed in {source.root}/{BAD_FILES}",
            file=sys.stderr,
        )
        source.leave_out({problem.path for problem in bad})
        return
    for copy in job.copies:
        write_problems(copy, bad)
    raise DataError(
        f"{source.root}: {len(bad):,} of {len(source.paths):,} images cannot be decoded, all listed in "
        f"{job.copies[0] / BAD_FILES}; the first is {bad[0]}. Replace them and index the folder again, or "
        "leave them out of it and of the copies with --skip-bad. The same command then goes on."
    )


def _end(copy: Path, source: Source, rule: Rule, pictures: Path | Remote, shard: tuple[int, int]) -> Manifest | None:
    """The manifest of a copy that is now whole; None while other shards have work to do."""
    manifest, missing = complete(copy, source, rule, pictures=pictures)
    if manifest is None and shard == (1, 1):
        raise lost_again(pictures, missing)
    if manifest is None:
        print(f"{pictures}: this shard is done, {missing:,} images are left to the others")
    return manifest
