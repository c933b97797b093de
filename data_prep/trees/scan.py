"""The one definition of an image tree: ROOT/train/CLASS/FILE and ROOT/validation (or val)/CLASS/FILE.

Classes are the sorted names of the class folders, so a label is a place in that list; files are sorted within a class.
Hidden names are passed over and told. Nothing is decoded here and nothing is ever changed.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.formats.file_names import name_fault, printable

FOLDERS = {"train": ("train",), "validation": ("validation", "val")}  # the first one that exists is the split
SHOWN = 5  # names in a message
HIDDEN, BESIDE, TWICE, CASE = (
    "hidden, passed over",
    "beside the class folders, passed over",
    "passed over, this folder is the split",
    "names differ in upper and lower case only",
)


@dataclass(frozen=True)
class Tree:
    folder: str  # of the split: "train", "validation" or "val"
    classes: tuple[str, ...]  # sorted; label -> name
    paths: list[bytes]  # relative to ROOT, sorted by class and name: b"train/disc/00000.jpg"
    labels: np.ndarray  # (N,) int64
    bytes: np.ndarray  # (N,) int64, size of each file
    notes: tuple[str, ...]  # what a user should be told: hidden names, names that differ in case only


def walk_trees(root: str | Path, follow_links: bool = False) -> dict[str, Tree]:
    """Both splits at `root`. DataError when one is missing, their classes differ or a name or link is refused."""
    root = Path(root)
    trees = {split: walk_tree(root, split, follow_links) for split in FOLDERS}
    same_classes(root, {tree.folder: tree.classes for tree in trees.values()})
    return trees


def same_classes(root: Path, classes: dict[str, tuple[str, ...]]) -> None:
    """DataError with the differences unless all folders (name -> sorted classes) have the same class list."""
    (first, expected), *others = classes.items()
    for name, found in others:
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        if missing or extra:
            differences = [
                f"{len(names)} only in {place} ({some(names)})"
                for names, place in ((missing, first), (extra, name))
                if names
            ]
            raise DataError(
                f"{root}: class folders differ, so labels would: {'; '.join(differences)}. Every class "
                "needs its folder in each of them."
            )


def split_folder(root: Path, split: str) -> str:
    """Name of the folder that holds `split`. DataError when there is none."""
    for name in FOLDERS[split]:
        if (root / name).is_dir():
            return name
    lacking = f"no folder {' or '.join(FOLDERS[split])}" if root.is_dir() else "there is no such folder"
    raise DataError(f"{root}: {lacking}. An image tree has train/CLASS/FILE and validation/CLASS/FILE (or val/).")


def walk_tree(root: Path, split: str, follow_links: bool = False) -> Tree:
    """The tree of one split, from the names and sizes alone.

    Links are followed to files inside `root`; anywhere else, and to folders, only with `follow_links`.
    """
    folder, passed = split_folder(root, split), {HIDDEN: [], BESIDE: [], TWICE: []}
    if FOLDERS[split][-1] != folder and (root / FOLDERS[split][-1]).is_dir():
        passed[TWICE].append(FOLDERS[split][-1])
    links = _Links(root, follow_links)
    links.check_folder(root / folder)
    classes = _class_folders(root / folder, links, passed)
    paths, labels, sizes = [], [], []
    for label, name in enumerate(classes):
        files = list(_files(root / folder / name, links, passed))
        if not files:
            raise DataError(
                f"{root / folder / name}: a class without images. Put its images there, or remove the "
                "class folder from every split."
            )
        paths += [b"/".join((os.fsencode(folder), os.fsencode(name), file)) for file, _ in files]
        sizes += [size for _, size in files]
        labels += [label] * len(files)
    passed[CASE] = _case_collisions(paths)
    notes = tuple(f"{root / folder}: {len(names):,} {kind} ({some(names)})" for kind, names in passed.items() if names)
    return Tree(folder, tuple(classes), paths, np.array(labels, np.int64), np.array(sizes, np.int64), notes)


def _class_folders(place: Path, links: "_Links", passed: dict[str, list[str]]) -> list[str]:
    classes = []
    for entry in _sorted_entries(place, passed):
        path = place / entry.name
        if entry.is_symlink():
            links.check_folder(path)
        if not path.is_dir():
            passed[BESIDE].append(printable(entry.name))
            continue
        if not entry.name.isprintable():  # the class list is text: also no bytes that are none
            raise DataError(f"{printable(path)}: the name of a class must be printable text. Rename it.")
        classes.append(entry.name)
    if not classes:
        raise DataError(f"{place}: no class folders. An image tree has {place.name}/CLASS/FILE.")
    return classes


def _files(place: Path, links: "_Links", passed: dict[str, list[str]]) -> Iterator[tuple[bytes, int]]:
    """Name and size of every file of a class folder, sorted by name."""
    for entry in _sorted_entries(place, passed):
        if entry.is_symlink():
            links.check_file(place / entry.name)
        if entry.is_dir():
            raise DataError(
                f"{printable(place / entry.name)}: a folder inside a class folder. Images lie "
                "directly in their class folder: move it away."
            )
        if not entry.is_file():
            raise DataError(f"{printable(place / entry.name)}: neither a file nor a link to one. Remove it.")
        yield os.fsencode(entry.name), entry.stat().st_size


def _sorted_entries(place: Path, passed: dict[str, list[str]]) -> list[os.DirEntry]:
    """What lies in a folder, sorted by the bytes of the names, without hidden names. DataError for a refused name."""
    try:
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(
            f"{printable(place)}: cannot be listed ({error.strerror}). Check that you may read it."
        ) from error
    passed[HIDDEN] += [printable(f"{place.name}/{entry.name}") for entry in entries if entry.name.startswith(".")]
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in entries:
        if fault := name_fault(os.fsencode(entry.name)):
            raise DataError(f"{printable(place / entry.name)}: {fault}.")
    return entries


def _case_collisions(paths: list[bytes]) -> list[str]:
    """Names that are one name on a file system that does not tell a from A."""
    counts = Counter(path.lower() for path in paths)
    return [printable(path) for path in paths if counts[path.lower()] > 1] if len(counts) < len(paths) else []


def some(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


class _Links:
    """What a symbolic link of the tree may lead to. A folder is entered once, so no loop is ever followed."""

    def __init__(self, root: Path, follow: bool):
        self.root, self.follow = os.path.realpath(root), follow
        self.entered = {}  # real path of a folder -> the link that led there

    def check_folder(self, link: Path) -> None:
        """DataError unless the folder (no link: nothing to check) may be entered."""
        if not link.is_symlink() or not self._target(link).is_dir():
            return
        if not self.follow:
            raise self._refused(link, "a link to a folder", "is followed only with --follow-links")
        target = str(self._target(link))
        inside = os.path.commonpath((self.root, target)) in (self.root, target)  # one of them lies in the other
        if inside or target in self.entered:
            raise self._refused(link, "a link to a folder", "would lead round in a loop or to the same images twice")
        self.entered[target] = link

    def check_file(self, link: Path) -> None:
        """DataError unless the link leads to a file that may be read."""
        target = self._target(link)
        if not self.follow and os.path.commonpath((self.root, target)) != self.root:
            raise self._refused(link, "a link out of the folder", "is followed only with --follow-links")

    def _target(self, link: Path) -> Path:
        try:
            return link.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
            raise self._refused(link, "a link", "leads nowhere or to itself") from error

    def _refused(self, link: Path, kind: str, reason: str) -> DataError:
        target = printable(os.readlink(os.fsencode(link)))
        return DataError(f"{printable(link)}: {kind} ({target}) {reason}.")
