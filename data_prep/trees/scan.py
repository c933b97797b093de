"""The one definition of an image tree: ROOT/train/CLASS/FILE and ROOT/validation (or val)/CLASS/FILE.

Classes are the sorted names of the class folders, so a label is a place in that list; files are sorted within a class.
Hidden names are passed over and told. Nothing is decoded here and nothing is ever changed.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.formats.file_names import name_fault, printable
from data_prep.stores import Entry, Remote, place
from data_prep.trees.names import BadNames, class_notes, file_collisions, form_hint, some

FOLDERS = {"train": ("train",), "validation": ("validation", "val")}  # the first one that exists is the split
HIDDEN, BESIDE, TWICE, CASE = (
    "hidden, passed over",
    "beside the class folders, passed over",
    "passed over, this folder is the split",
    "file names differ in upper and lower case or in the Unicode form only",
)


@dataclass(frozen=True)
class Tree:
    folder: str  # of the split: "train", "validation" or "val"
    classes: tuple[str, ...]  # sorted; label -> name
    paths: list[bytes]  # relative to ROOT, sorted by class and name: b"train/disc/00000.jpg"
    labels: np.ndarray  # (N,) int64
    bytes: np.ndarray  # (N,) int64, size of each file
    notes: tuple[str, ...]  # what a user should be told: hidden names, names that differ in case only


def walk_trees(root: str | Path | Remote, follow_links: bool = False) -> dict[str, Tree]:
    """Both splits at `root`, a folder or one in a store. DataError when one is missing, their classes differ or a name
    or link is refused."""
    root = place(root)
    trees, faults = {}, []
    for split in FOLDERS:
        try:
            trees[split] = walk_tree(root, split, follow_links)
        except BadNames as error:
            faults += error.faults
    if faults:
        raise BadNames(faults)
    same_classes(root, {tree.folder: tree.classes for tree in trees.values()})
    return trees


def same_classes(root: Path | Remote, classes: dict[str, tuple[str, ...]]) -> None:
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
                f"needs its folder in each of them.{form_hint(missing, extra)}"
            )


def split_folder(root: Path | Remote, split: str) -> str:
    """Name of the folder that holds `split`. DataError when there is none."""
    for name in FOLDERS[split]:
        if (root / name).is_dir():
            return name
    lacking = f"no folder {' or '.join(FOLDERS[split])}" if root.is_dir() else "there is no such folder"
    raise DataError(f"{root}: {lacking}. An image tree has train/CLASS/FILE and validation/CLASS/FILE (or val/).")


def walk_tree(root: Path | Remote, split: str, follow_links: bool = False) -> Tree:
    """The tree of one split, from the names and sizes alone.

    Links are followed to files inside `root`; anywhere else, and to folders, only with `follow_links`.
    """
    folder, passed = split_folder(root, split), {HIDDEN: [], BESIDE: [], TWICE: []}
    if FOLDERS[split][-1] != folder and (root / FOLDERS[split][-1]).is_dir():
        passed[TWICE].append(FOLDERS[split][-1])
    links = _Links(root, follow_links)
    links.check_folder(root / folder)
    classes = _class_folders(root / folder, links, passed)
    paths, labels, sizes, empty = [], [], [], []
    for label, name in enumerate(classes):
        files = list(_files(root / folder / name, links, passed))
        if not files:
            empty.append(printable(str(root / folder / name)))
        paths += [b"/".join((os.fsencode(folder), os.fsencode(name), file)) for file, _ in files]
        sizes += [size for _, size in files]
        labels += [label] * len(files)
    if empty:
        raise DataError(
            f"{some(empty)}: {'a class' if len(empty) == 1 else f'{len(empty):,} classes'} without images. Put images "
            "there, or remove the class folder from every split."
        )
    passed[CASE] = file_collisions(paths)
    notes = [f"{root / folder}: {len(names):,} {kind} ({some(names)})" for kind, names in passed.items() if names]
    if split == "train":  # the other split has the same classes
        notes += [f"{root}: {note}" for note in class_notes(classes)]
    return Tree(folder, tuple(classes), paths, np.array(labels, np.int64), np.array(sizes, np.int64), tuple(notes))


def _class_folders(folder: Path | Remote, links: "_Links", passed: dict[str, list[str]]) -> list[str]:
    classes, faults = [], []
    for entry in _sorted_entries(folder, passed, faults):
        path = folder / entry.name
        if entry.is_symlink():
            links.check_folder(path)
        if not entry.is_dir():
            passed[BESIDE].append(printable(entry.name))
            continue
        if not entry.name.isprintable():  # the class list is text: also no bytes that are none
            faults.append(f"{printable(str(path))}: the name of a class must be printable text. Rename it")
            continue
        classes.append(entry.name)
    if faults:
        raise BadNames(faults)
    if not classes:
        raise DataError(f"{folder}: no class folders. An image tree has {folder.name}/CLASS/FILE.")
    return classes


def _files(folder: Path | Remote, links: "_Links", passed: dict[str, list[str]]) -> Iterator[tuple[bytes, int]]:
    """Name and size of every file of a class folder, sorted by name."""
    faults: list[str] = []
    entries = _sorted_entries(folder, passed, faults)
    if faults:
        raise BadNames(faults)
    for entry in entries:
        if entry.is_symlink():
            links.check_file(folder / entry.name)
        if entry.is_dir():
            raise DataError(
                f"{printable(str(folder / entry.name))}: a folder inside a class folder. Images lie "
                "directly in their class folder: move it away."
            )
        if not entry.is_file():
            raise DataError(f"{printable(str(folder / entry.name))}: neither a file nor a link to one. Remove it.")
        yield os.fsencode(entry.name), entry.stat().st_size


def _sorted_entries(
    folder: Path | Remote, passed: dict[str, list[str]], faults: list[str]
) -> list[os.DirEntry | Entry]:
    """What lies in a folder, sorted by the bytes of the names, without hidden names. Names that are refused are left
    out and added to `faults`."""
    try:
        with nullcontext(folder.entries()) if isinstance(folder, Remote) else os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(
            f"{printable(str(folder))}: cannot be listed ({error.strerror}). Check that you may read it."
        ) from error
    passed[HIDDEN] += [printable(f"{folder.name}/{entry.name}") for entry in entries if entry.name.startswith(".")]
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    reasons = {entry.name: name_fault(os.fsencode(entry.name)) for entry in entries}
    faults += [f"{printable(str(folder / name))}: {reason}" for name, reason in reasons.items() if reason]
    return [entry for entry in entries if not reasons[entry.name]]


class _Links:
    """What a symbolic link of the tree may lead to. A folder is entered once, so no loop is ever followed."""

    def __init__(self, root: Path | Remote, follow: bool):
        self.root, self.follow = os.path.realpath(str(root)), follow  # a store has no links
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
