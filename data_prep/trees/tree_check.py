"""Every image of one tree decoded and compared with its index; its packed files compared with their hashes."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_prep.errors import DataError
from data_prep.formats.image_index import ImageIndex, index_name, open_index
from data_prep.formats.manifest import Manifest, check_files, load_manifest
from data_prep.formats.pictures import PictureFacts, picture_facts, read_rgb
from data_prep.progress import tracked
from data_prep.trees.adopt import MISSING, NEW, links_followed, tree_changes
from data_prep.trees.problems import Problem
from data_prep.trees.scan import walk_trees
from data_prep.workers import in_processes

CHUNK = 32  # images decoded by a process at a time
CMYK = """n01739381_1309 n02077923_14822 n02447366_23489 n02492035_15739 n02747177_10752 n03018349_4028
n03062245_4620 n03347037_9675 n03467068_12171 n03529860_11437 n03544143_17228 n03633091_5218
n03710637_5125 n03961711_5286 n04033995_2932 n04258138_17003 n04264628_27969 n04336792_7448
n04371774_5854 n04596742_4225 n07583066_647 n13037406_4650 ILSVRC2012_val_00019877"""
KNOWN = {name: "CMYK" for name in CMYK.split()} | {"n02105855_2933": "PNG"}


@dataclass
class TreeCheck:
    root: Path
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


def check_tree(root: Path, workers: int = 0) -> TreeCheck:
    """Look at everything below `root`. DataError only when there is no dataset or its index cannot be read."""
    manifest = load_manifest(root)
    check = TreeCheck(root, manifest)
    index_files = {index_name(split) for split in manifest.splits}
    files = {name for split in manifest.splits.values() for name in split.files}
    try:
        check_files(root, manifest, only=files - index_files)
    except DataError as error:
        check.faults.append(str(error))
    if index_files <= files:
        check.indices = open_index(root)
        new = _compare_names(check)
        for split in check.indices:
            _decode_all(check, split, new.get(split, []), workers)
    return check


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


def _decode_all(check: TreeCheck, split: str, new: list[bytes], workers: int) -> None:
    """Decode the files of the index and the new ones; those of unchanged size must have the pixels of the index."""
    index, changed = check.indices[split], {problem.path: problem.reason for problem in check.changed}
    expected = {
        path: (width, height)
        for path, width, height in zip(index.paths.tolist(), index.widths.tolist(), index.heights.tolist(), strict=True)
    }
    paths = [path for path in expected if changed.get(path) != MISSING] + new
    places = [os.path.join(os.fspath(check.root), os.fsdecode(path)) for path in paths]
    results = tracked(in_processes(_decode, places, workers, CHUNK), f"decoding {check.root} {split}", len(places))
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


def _decode(path: str) -> PictureFacts | str:
    """What a file is when all of it can be decoded (PictureFacts), else why not (str)."""
    try:
        facts, size = picture_facts(path), read_rgb(path).size
    except DataError as error:
        return str(error).partition(": ")[2]
    return facts._replace(width=size[0], height=size[1])


def known_oddity(path: bytes) -> str:
    """What the file is known to be, by its name alone: "CMYK", "PNG", or "" for an ordinary one."""
    path = PurePosixPath(path.decode(errors="replace"))
    return KNOWN.get(path.stem, "") if path.suffix == ".JPEG" else ""
