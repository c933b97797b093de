"""Index a tree of image files where it lies: headers are read, nothing under train/ or validation/ is changed. Files
that cannot be used are listed in bad_files.tsv."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.crops.segments import segment_names
from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import disk_errors, one_writer, write_atomically
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex, describe_index, index_digest, index_name, open_index, save_index
from data_prep.formats.manifest import MANIFEST, Manifest, describe_files, load_manifest, save_manifest, tool_versions
from data_prep.formats.packed_tree import packed_tree_names
from data_prep.formats.pictures import picture_facts, read_rgb
from data_prep.progress import tracked
from data_prep.stores import BAD_FILES, HEAD, Remote, beside, place, read, read_heads
from data_prep.trees.scan import Tree, split_folder, walk_trees

SUFFIXES = (
    b".jpeg",
    b".jpg",
    b".png",
    b".gif",
    b".webp",
    b".bmp",
    b".tif",
    b".tiff",
    b".ppm",
    b".pgm",
    b".jp2",
    b".avif",
)  # a file of another name counts when its content is a picture
TASKS = {"imagenet": "ImageNet", "imagenette": "Imagenette"}  # names of DAWNBench's tasks
ADOPTED, LINKS = "image files of the user", ", links followed"  # Manifest.source
NEW, MISSING = "new", "missing"  # reasons of a Problem
CHUNK = 512  # headers read by a process at a time
DECODED = 100  # files outside the index are decoded, when they are fewer, to tell new ones from others


def adopt(
    root: str | Path | Remote,
    name: str = "",
    follow_links: bool = False,
    again: bool = False,
    skip_bad: bool = False,
    engine: Engine = LOCAL,
) -> Manifest:
    """Index the tree at `root`, a folder or one in a store, and write its manifest beside it, last. Nothing
    to do when the index fits the files.

    DataError when it does not fit and not `again`, or when a file is bad and not `skip_bad` (then it stays out).
    """
    root = place(root)
    if name and name != dataset_name(Path(name)):
        raise DataError(f"--name {name}: use small letters, digits and dashes")
    for split in ("train", "validation"):
        split_folder(root, split)  # before anything is written
    with disk_errors(root), one_writer_of(root), beside(root) as folder:
        before = _before(folder, again)
        follow_links = follow_links or (bool(before) and links_followed(before))
        trees = walk_trees(root, follow_links)
        for note in (note for tree in trees.values() for note in tree.notes):
            print(f"note: {note}", file=sys.stderr)
        if before and not again:
            return _unchanged(root, folder, before, trees, name)
        name = name or (before.name if before else dataset_name(root))
        indices = index_trees(root, trees, skip_bad, engine, folder)
        source = (before.source if before else ADOPTED).removesuffix(LINKS) + (LINKS if follow_links else "")
        return publish_index(folder, name, source, trees["train"].classes, indices)


def one_writer_of(root: Path | Remote, wait: bool = False) -> AbstractContextManager:
    """files.one_writer; nothing for a store, which has no locks."""
    return nullcontext() if isinstance(root, Remote) else one_writer(root, wait)


def dataset_name(root: Path | Remote) -> str:
    """A manifest's name from the folder's: small letters, digits and dashes."""
    return (
        re.sub(r"[^a-z0-9]+", "-", (root if isinstance(root, Remote) else root.resolve()).name.lower()).strip("-")
        or "images"
    )


def index_trees(
    root: Path | Remote,
    trees: dict[str, Tree],
    skip_bad: bool = False,
    engine: Engine = LOCAL,
    folder: Path | None = None,
) -> dict[str, ImageIndex]:
    """Read the header of every file. Bad ones are listed in bad_files.tsv in `folder` (ROOT); DataError unless
    `skip_bad`."""
    folder = folder or Path(root)
    problems, indices = [], {}
    for split, tree in trees.items():
        indices[split], bad = _index_tree(root, tree, engine)
        problems += bad
    write_problems(folder, problems)
    if problems and not skip_bad:
        raise refuse(folder, problems)
    if problems:
        print(f"LEFT OUT: {len(problems):,} bad files, listed in {root}/{BAD_FILES}", file=sys.stderr)
    for split, tree in trees.items():
        counts = np.bincount(indices[split].labels, minlength=len(tree.classes))
        if not counts.all():
            empty = tree.classes[int(np.argmin(counts))]
            raise DataError(f"{root / tree.folder / empty}: a class without a readable image.")
    return indices


def publish_index(
    root: Path,
    name: str,
    source: str,
    classes: tuple[str, ...],
    indices: dict[str, ImageIndex],
    created_by: str = "",
    beside: dict[str, list[str]] | None = None,
) -> Manifest:
    """Write the index files of a tree and then its manifest; no manifest is there in between. `beside`: names of
    further files that lie there, by split."""
    (root / MANIFEST).unlink(missing_ok=True)
    for split, index in indices.items():
        save_index(root, split, index)
    splits = {split: describe_index(root, split, index, len(classes)) for split, index in indices.items()}
    for split, names in (beside or {}).items():
        splits[split] = replace(splits[split], files=splits[split].files | describe_files(root, names))
    manifest = Manifest(
        name, TASKS.get(name, name), source, classes, splits, index_digest(indices), created_by or tool_versions()
    )
    save_manifest(root, manifest)
    return manifest


class Problem(NamedTuple):
    path: bytes  # relative to ROOT
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


def _index_tree(root: Path | Remote, tree: Tree, engine: Engine) -> tuple[ImageIndex, list[Problem]]:
    sizes = np.zeros((len(tree.paths), 2), np.int32)
    problems, foreign = [], 0
    results = _headers(root, tree, engine)
    for row, facts in enumerate(tracked(results, f"reading the headers of {tree.folder}", len(tree.paths))):
        if not isinstance(facts, str):
            sizes[row] = facts
        elif tree.paths[row].lower().endswith(SUFFIXES):
            problems.append(Problem(tree.paths[row], facts))
        else:
            foreign += 1
    if foreign:
        print(f"note: {root / tree.folder}: {foreign:,} files that are no pictures, passed over", file=sys.stderr)
    kept = np.flatnonzero(sizes[:, 0])
    paths = np.array([tree.paths[row] for row in kept], np.bytes_)
    return ImageIndex(paths, tree.labels[kept], sizes[kept, 0], sizes[kept, 1], tree.bytes[kept]), problems


def _headers(root: Path | Remote, tree: Tree, engine: Engine) -> Iterator[tuple[int, int] | str]:
    """Of every file of the tree, in order, as _header."""
    if isinstance(root, Path):
        yield from engine.map(_header, [os.path.join(root, os.fsdecode(path)) for path in tree.paths], CHUNK)
        return
    files = list(zip(tree.paths, tree.bytes.tolist(), strict=True))
    parts = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    yield from chain.from_iterable(engine.map(partial(_remote_headers, root), parts, 1))


def _remote_headers(root: Remote, files: list[tuple[bytes, int]]) -> list[tuple[int, int] | str]:
    """Of the objects (path, bytes), as _header. From the beginning of each; where that is not enough, from all."""
    found = []
    for (path, size), data in zip(files, read_heads(root, files), strict=True):
        facts = _header(data)
        if isinstance(facts, str) and size > HEAD:
            facts = _header(root.read(path))
        found.append(facts)
    return found


def _header(source: str | bytes) -> tuple[int, int] | str:
    """Width and height of a file (a path, or its content as bytes), or why it has none."""
    try:
        facts = picture_facts(source)
    except DataError as error:
        return str(error).partition(": ")[2]
    return facts.width, facts.height


def _before(root: Path, again: bool) -> Manifest | None:
    """The manifest of an earlier run; DataError when it is of something that `adopt` does not make."""
    if not (root / MANIFEST).exists():
        return None
    try:
        manifest = load_manifest(root)
    except DataError:
        if again:
            return None
        raise
    foreign = foreign_files(manifest)
    if foreign:
        raise DataError(
            f"{root}: holds the dataset '{manifest.name}' with other files ({foreign[0]}). It needs no "
            "adopt; choose another folder."
        )
    return manifest


def foreign_files(manifest: Manifest) -> list[str]:
    """Files of a dataset that are neither its index nor made from it: what is indexed anew would not fit them."""
    ours = {
        name
        for split in manifest.splits
        for name in (*packed_tree_names(split), index_name(split), *segment_names(split))
    }
    return sorted({file for split in manifest.splits.values() for file in split.files} - ours)


def links_followed(manifest: Manifest) -> bool:
    return manifest.source.endswith(LINKS)


def _unchanged(root: Path | Remote, folder: Path, manifest: Manifest, trees: dict[str, Tree], name: str) -> Manifest:
    """The manifest as it is. DataError that says what differs between it, which lies in `folder`, and the files."""
    if name and name != manifest.name:
        raise DataError(f"{root}: is indexed as '{manifest.name}', not '{name}'. Add --again to index it anew.")
    indices = open_index(folder)
    changes = [change for split, tree in trees.items() for change in tree_changes(tree, indices[split])]
    outside = [change for change in changes if change.reason == NEW]
    if len(outside) < DECODED:  # some are no pictures, or bad ones that were left out
        left_out = [change for change in outside if not _decodes(root, change.path)]
        changes = [change for change in changes if change not in left_out]
    if trees["train"].classes != manifest.classes:
        changes.insert(0, Problem(b"train", "other class folders"))
    if changes:
        kinds = ", ".join(
            f"{sum(c.reason.startswith(kind) for c in changes):,} {kind}"
            for kind in sorted({c.reason.split(":")[0] for c in changes})
        )
        raise DataError(
            f"{root}: changed since it was indexed: {kinds}; the first is {changes[0]}. Add --again to "
            "index it anew (checkpoints of the old one will not resume)."
        )
    return manifest


def tree_changes(tree: Tree, index: ImageIndex) -> list[Problem]:
    """What differs between the files on disk and the index, by name and size alone."""
    on_disk = dict(zip(tree.paths, tree.bytes.tolist(), strict=True))
    changes = []
    for path, size in zip(index.paths.tolist(), index.bytes.tolist(), strict=True):
        found = on_disk.pop(path, None)
        if found is None:
            changes.append(Problem(path, MISSING))
        elif found != size:
            changes.append(Problem(path, f"another size: {found} bytes, the index says {size}"))
    return changes + [Problem(path, NEW) for path in on_disk]


def _decodes(root: Path | Remote, path: bytes) -> bool:
    try:
        return bool(read_rgb(read(root, path)))
    except (DataError, OSError):
        return False


def write_problems(root: Path, problems: list[Problem]) -> None:
    """Write ROOT/bad_files.tsv (path, tab, reason); none is left when there is nothing to tell."""
    if not problems:
        (root / BAD_FILES).unlink(missing_ok=True)
        return
    lines = [f"{printable(path)}\t{printable(reason)}\n" for path, reason in problems]
    write_atomically(root / BAD_FILES, "".join(["path\treason\n", *lines]).encode())


def refuse(root: Path, problems: list[Problem]) -> DataError:
    return DataError(
        f"{root}: {len(problems):,} bad files, all listed in {root / BAD_FILES}; the first is "
        f"{problems[0]}. Replace them, or leave them out with --skip-bad."
    )
