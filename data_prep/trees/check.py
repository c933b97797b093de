"""Look at a whole dataset: every image of ROOT and of its copies decoded, all trees compared.

Nothing is changed but the list ROOT/bad_files.tsv, unless the caller wants the index written anew.
"""

import os
import sys
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.crops.segments import has_segments, open_segments, segment_names
from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex, index_digest, index_name, open_index
from data_prep.formats.manifest import CROPS, MANIFEST, Manifest, check_files, load_manifest
from data_prep.formats.packed_tree import packed_tree_names
from data_prep.formats.pictures import PictureFacts, picture_facts, read_rgb
from data_prep.progress import tracked
from data_prep.stores import Remote, beside, names_in, place, read
from data_prep.trees.adopt import (
    BAD_FILES,
    MISSING,
    NEW,
    Problem,
    foreign_files,
    index_trees,
    links_followed,
    one_writer_of,
    publish_index,
    tree_changes,
    write_problems,
)
from data_prep.trees.scan import walk_trees
from data_prep.trees.source_tree import copies_of

SHOWN = 20  # bad files named on the screen
CHUNK = 32  # images decoded by a process at a time
CMYK = """n01739381_1309 n02077923_14822 n02447366_23489 n02492035_15739 n02747177_10752 n03018349_4028
n03062245_4620 n03347037_9675 n03467068_12171 n03529860_11437 n03544143_17228 n03633091_5218
n03710637_5125 n03961711_5286 n04033995_2932 n04258138_17003 n04264628_27969 n04336792_7448
n04371774_5854 n04596742_4225 n07583066_647 n13037406_4650 ILSVRC2012_val_00019877"""
KNOWN = {name: "CMYK" for name in CMYK.split()} | {"n02105855_2933": "PNG"}


def check_dataset(
    root: str | Path | Remote, write: bool = False, skip_bad: bool = False, engine: Engine = LOCAL
) -> bool:
    """Print what is found; True when all is well, or was made so by `write`.

    `write` indexes ROOT anew when its files have changed. Bad files leave the index only with `skip_bad`.
    """
    if skip_bad and not write:
        raise DataError("--skip-bad: leaves bad files out of the index, so it needs --write")
    root = place(root)
    main = check_tree(root, engine)
    copies = [] if not main.indices else list(_copies(main, engine))
    for tree in (main, *copies):
        _tell(tree)
    if all(tree.fine for tree in (main, *copies)):
        print(f"{root}: all well" + (f", {len(copies)} copies agree" if copies else ""))
        return True
    if not write:
        _advise(main, copies)
        return False
    with disk_errors(root), one_writer_of(root):
        return _write(main, copies, skip_bad, engine)


@dataclass
class TreeCheck:
    root: Path | Remote
    manifest: Manifest
    indices: dict[str, ImageIndex] = field(default_factory=dict)  # empty for a dataset without image files
    faults: list[str] = field(default_factory=list)  # of the tree as a whole
    changed: list[Problem] = field(default_factory=list)  # files that are missing, new or of another size
    bad: list[Problem] = field(default_factory=list)  # files that do not decode, or not to the size of the index
    outside: list[Problem] = field(default_factory=list)  # files that do not decode but are in no index: no harm done
    kinds: Counter = field(default_factory=Counter)  # "JPEG RGB" -> images
    odd: list[str] = field(default_factory=list)  # known oddities of ImageNet that are here

    @property
    def fine(self) -> bool:
        return not (self.faults or self.changed or self.bad)


def same_images(main: TreeCheck, copy: TreeCheck) -> str:
    """Why the images of two trees are not the same in the same order, "" when they are. Suffixes may differ."""
    if main.manifest.classes != copy.manifest.classes:
        differing = sorted(set(main.manifest.classes) ^ set(copy.manifest.classes))
        return f"other classes than {main.root} ({', '.join(differing[:5])})"
    for split, index in main.indices.items():
        expected, found = _names(index), _names(copy.indices[split])
        if len(expected) != len(found):
            return f"{len(found):,} {split} images, {main.root} has {len(expected):,}"
        for row, (one, other) in enumerate(zip(expected, found, strict=True)):
            if one != other or index.labels[row] != copy.indices[split].labels[row]:
                return f"{split} image {row} is {printable(other)}, in {main.root} it is {printable(one)}"
    return ""


def _names(index: ImageIndex) -> list[bytes]:
    """CLASS/FILE without the split's folder and the suffix."""
    return [path.partition(b"/")[2].rpartition(b".")[0] or path for path in index.paths.tolist()]


def _copies(main: TreeCheck, engine: Engine):
    """Check every folder ROOT-sz/N and ROOT-sz/N-crops, and ROOT-crops. A smaller copy that is not finished is joined
    when all its shards are done."""
    for root in copies_of(main.root):
        try:
            there = names_in(root)
            if PARTIAL in there and MANIFEST not in there:
                _join(root)
            copy = check_tree(root, engine)
            extra = [problem for problem in copy.changed if problem.reason == NEW]  # their source has left the index
            copy.changed = [problem for problem in copy.changed if problem.reason != NEW]
            copy.outside += extra
            difference = same_images(main, copy) if copy.indices else "no image files"
        except DataError as error:
            copy, difference = TreeCheck(root, main.manifest), str(error).removeprefix(f"{root}: ")
        if difference:
            copy.faults.append(f"{root}: {difference}")
        yield copy


def _join(root: Path | Remote) -> None:
    """Make a smaller copy whole. Raises: DataError where images are still to come."""
    if isinstance(root, Remote):  # shards share a disk
        raise DataError(f"{root}: is not whole. The command that makes it goes on")
    if root.name.isdigit():
        from data_prep.trees.shards import join

        join(root)


def _tell(tree: TreeCheck) -> None:
    """Print what was found in a tree and list its files in bad_files.tsv."""
    if tree.indices or not tree.faults:
        counts = " + ".join(f"{split.images:,} {name}" for name, split in tree.manifest.splits.items())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in tree.kinds.most_common())
        print(
            f"{tree.root}: {tree.manifest.name}, {counts} images, {len(tree.manifest.classes)} classes"
            + (f"; {kinds}" if kinds else "")
        )
    if tree.odd:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(tree.odd).items()))
        print(f"{tree.root}: known oddities of ImageNet: {kinds} named JPEG; they decode")
    if tree.outside:
        print(
            f"{tree.root}: {len(tree.outside):,} files are not in the index and not needed, the first is "
            f"{min(tree.outside)}"
        )
    problems = sorted(tree.changed + tree.bad)
    for problem in problems[:SHOWN]:
        print(f"BAD {tree.root}/{problem}")
    if len(problems) > SHOWN:
        print(f"BAD {tree.root}: {len(problems) - SHOWN:,} more, see {tree.root / BAD_FILES}")
    for fault in tree.faults:
        print(f"BAD {fault}")
    try:
        with beside(tree.root) as folder:
            write_problems(folder, sorted(problems + tree.outside))
    except OSError as error:
        print(f"note: {tree.root / BAD_FILES} cannot be written ({error.strerror})", file=sys.stderr)
    except DataError as error:  # a store that may only be read
        print(f"note: {error}", file=sys.stderr)


def _advise(main: TreeCheck, copies: list[TreeCheck]) -> None:
    if main.changed:
        print(f"{main.root} has changed since it was indexed; --write indexes it anew")
    if main.bad:
        print("replace the bad files, or leave them out of the index of all trees: --write --skip-bad")
    for copy in copies:
        if (copy.bad or copy.faults) and _is_of_another_index(copy, main):
            print(f"{main.root} was indexed anew since then: delete {copy.root} and run `{_maker(copy)}` again")
        elif copy.changed or copy.bad:
            print(f"delete what is bad in {copy.root} and run `{_maker(copy)}` again: it makes what is missing")


def _is_of_another_index(copy: TreeCheck, main: TreeCheck) -> bool:
    """Whether it was made of ROOT as it was indexed before (shards.py): nobody makes such a copy whole."""
    begin = f"{main.manifest.source} ("
    return copy.manifest.source.startswith(begin) and index_digest(main.indices)[:16] not in copy.manifest.source


def _maker(copy: TreeCheck) -> str:
    return "index-crops" if copy.root.name.endswith(CROPS) else "resize"


def _write(main: TreeCheck, copies: list[TreeCheck], skip_bad: bool, engine: Engine) -> bool:
    """Index ROOT anew, and its copies as far as they hold the same images. False when something is left to do."""
    if foreign_files(main.manifest) or main.faults:
        raise DataError(f"{main.root}: --write cannot mend this dataset; make it again")
    if main.bad and not skip_bad:
        raise DataError(
            f"{main.root}: {len(main.bad):,} bad files, nothing was written. Replace them, or leave them "
            "out with --skip-bad"
        )
    new = _without(main, main.bad, engine)
    done = _publish(main, new, main.manifest.source)
    digests = {index_digest(main.indices)[:16]: index_digest(new)[:16]}
    for copy in copies:
        done &= _follow(main, copy, new, digests)
    return done


def _without(main: TreeCheck, bad: list[Problem], engine: Engine) -> dict[str, ImageIndex]:
    """The index of what lies in ROOT now, without the bad files."""
    new, out = main.indices, {problem.path for problem in bad + main.outside}
    if main.changed:
        with beside(main.root) as folder:
            trees = walk_trees(main.root, links_followed(main.manifest))
            new = index_trees(main.root, trees, True, engine, folder)
            write_problems(folder, sorted(bad + main.outside))
    if bad:
        print(f"LEFT OUT of {main.root} and its copies: {len(bad):,} bad files, listed in {main.root / BAD_FILES}")
    return {split: _rows(index, [path not in out for path in index.paths.tolist()]) for split, index in new.items()}


def _follow(main: TreeCheck, copy: TreeCheck, new: dict[str, ImageIndex], digests: dict[str, str]) -> bool:
    """Take out of a copy what has left ROOT. False when it lacks images or has faults of its own. `digests`: of the
    indices that copies were made of, before -> now; that of this copy is added."""
    if not copy.fine or same_images(main, copy):
        return False
    rows = {split: np.isin(_names(index), _names(new[split])) for split, index in copy.indices.items()}
    kept = {split: _rows(index, rows[split]) for split, index in copy.indices.items()}
    if any(_names(kept[split]) != _names(new[split]) for split in kept) or any(
        change.reason != "missing" for change in main.changed
    ):
        print(f"{copy.root}: lacks what is new or changed in {main.root}; delete it and run `{_maker(copy)}` again")
        return False
    source = copy.manifest.source  # it names the index that the copy was made of, that of ROOT-sz/N-crops two
    for before, now in digests.items():
        source = source.replace(before, now)
    digests[index_digest(copy.indices)[:16]] = index_digest(kept)[:16]
    return _publish(copy, kept, source)


def _rows(index: ImageIndex, keep: list[bool] | np.ndarray) -> ImageIndex:
    return ImageIndex(*(array[np.asarray(keep, bool)] for array in vars(index).values()))


def _publish(tree: TreeCheck, indices: dict[str, ImageIndex], source: str) -> bool:
    if source == tree.manifest.source and index_digest(indices) == index_digest(tree.indices):
        return True  # packed pixels and segments still fit
    for split, index in indices.items():
        if len(np.unique(index.labels)) < len(tree.manifest.classes):
            raise DataError(f"{tree.root}: a class of '{split}' would be left without images. Nothing was written.")
    files = {name for split in tree.manifest.splits.values() for name in split.files}
    lost = [
        f"its {words} no longer fit: {command} again"
        for names, words, command in (
            (packed_tree_names, "packed pixels", "`pack`"),
            (segment_names, "segments", "delete there what has left the index and run `index-crops`"),
        )
        if any(files & set(names(split)) for split in indices)
    ]
    with beside(tree.root) as folder:
        publish_index(folder, tree.manifest.name, source, tree.manifest.classes, indices)
    print("; ".join([f"{tree.root}: index and manifest written", *lost]))
    return True


def check_tree(root: Path | Remote, engine: Engine = LOCAL) -> TreeCheck:
    """Look at everything below `root`. DataError only when there is no dataset, its index cannot be read, or its store
    refuses."""
    with beside(root) as folder:
        manifest = load_manifest(folder)
        index_files = {index_name(split) for split in manifest.splits}
        files = {name for split in manifest.splits.values() for name in split.files}
        check = TreeCheck(root, manifest, open_index(folder) if index_files <= files else {})
    sums = {}
    try:
        _check_others(root, manifest, files - index_files)
        sums = _file_sums(check)
    except DataError as error:
        check.faults.append(str(error))
    if check.indices:
        new = _compare_names(check)
        for split in check.indices:
            _decode_all(check, split, new.get(split, []), sums, engine)
    return check


def _check_others(root: Path | Remote, manifest: Manifest, names: set[str]) -> None:
    """Raises: DataError for the first of these files that is not that of the manifest."""
    if isinstance(root, Path):
        check_files(root, manifest, only=names)
        return
    expected = {name: facts["sha256"] for split in manifest.splits.values() for name, facts in split.files.items()}
    for name in sorted(names):
        if root.digest(name) != expected[name]:
            raise DataError(f"{root / name}: SHA-256 differs from the manifest: the object was changed or damaged")


def _file_sums(check: TreeCheck) -> dict[bytes, int]:
    """CRC-32 of the files that can be cut, by path; of a tree without segments none. Raises: DataError."""
    if not check.indices or not has_segments(check.manifest, tuple(check.indices)):
        return {}
    with beside(check.root) as folder:
        for name in (name for split in check.indices for name in segment_names(split)):
            if isinstance(check.root, Remote):
                (folder / name).write_bytes(check.root.read(name.encode()))
        segments = open_segments(folder, tuple(check.indices))
        rows = ((split, row, path) for split in check.indices for row, path in enumerate(check.indices[split].paths))
        found = {path: segments[split].file_sum(row) for split, row, path in rows}
    return {path: file_sum for path, file_sum in found.items() if file_sum is not None}


def _compare_names(check: TreeCheck) -> dict[str, list[bytes]]:
    """Compare names and sizes of all files with the index. Returns the new files of each split."""
    try:
        trees = walk_trees(check.root, links_followed(check.manifest))
    except DataError as error:
        check.faults.append(str(error))
        return {}
    if trees["train"].classes != check.manifest.classes:
        check.faults.append(f"{check.root}: its class folders are not those of the manifest")
    new = {}
    for split, tree in trees.items():
        changes = tree_changes(tree, check.indices[split])
        new[split] = [change.path for change in changes if change.reason == NEW]
        check.changed += [change for change in changes if change.reason != NEW]
    return new


def _decode_all(check: TreeCheck, split: str, new: list[bytes], sums: dict[bytes, int], engine: Engine) -> None:
    """Decode the files of the index and the new ones; those of unchanged size must have the pixels of the index, and
    the bytes of the CRC-32 in `sums`."""
    index, changed = check.indices[split], {problem.path: problem.reason for problem in check.changed}
    expected = {
        path: (width, height)
        for path, width, height in zip(index.paths.tolist(), index.widths.tolist(), index.heights.tolist(), strict=True)
    }
    paths = [path for path in expected if changed.get(path) != MISSING] + new
    files = [(path, None if path in changed else sums.get(path)) for path in paths]
    results = engine.map(partial(_decode, check.root), files, CHUNK)
    results = tracked(results, f"decoding {check.root} {split}", len(paths))
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            (check.bad if path in expected else check.outside).append(Problem(path, result))
            continue
        check.kinds[f"{result.format} {result.mode}"] += 1
        if path not in expected:
            check.changed.append(Problem(path, NEW))
        elif path not in changed and (result.width, result.height) != expected[path]:
            check.bad.append(
                Problem(
                    path,
                    f"{result.width}x{result.height} pixels, the index says {expected[path][0]}x{expected[path][1]}",
                )
            )
        if known_oddity(path) in (result.format, result.mode):
            check.odd.append(known_oddity(path))


def _decode(root: Path | Remote, item: tuple[bytes, int | None]) -> PictureFacts | str:
    """What a file (path, CRC-32 if it is known) is when all of it can be decoded (PictureFacts), else what is wrong
    (str). Raises: DataError for a store that refuses: that says nothing about the file."""
    path, file_sum = item
    file = os.path.join(root, os.fsdecode(path)) if isinstance(root, Path) else root.read(path)
    try:
        facts, size = picture_facts(file), read_rgb(file).size
        data = b"" if file_sum is None else file if isinstance(file, bytes) else read(root, path)
    except DataError as error:
        return str(error).partition(": ")[2]
    except OSError as error:
        return error.strerror or str(error)
    if file_sum is not None and zlib.crc32(data) != file_sum:
        return "other bytes than when its segments were indexed"
    return facts._replace(width=size[0], height=size[1])


def known_oddity(path: bytes) -> str:
    """What the file is known to be, by its name alone: "CMYK", "PNG", or "" for an ordinary one."""
    path = PurePosixPath(path.decode(errors="replace"))
    return KNOWN.get(path.stem, "") if path.suffix == ".JPEG" else ""
