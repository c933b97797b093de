"""What the names of class folders and files mean, where a user may think otherwise: the order of labels, and names that
are one name elsewhere."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from data_prep.errors import DataError
from data_prep.formats.file_names import printable

SHOWN = 5  # names in a message
NUMBER = re.compile(r"[0-9]+")


class BadNames(DataError):
    """Names that cannot be used, all that were found; `faults` says of each what is wrong with it."""

    def __init__(self, faults: list[str]):
        self.faults = faults
        more = f"; and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        text = "; ".join(faults[:SHOWN]) + more
        super().__init__(f"{text}." if len(faults) == 1 else f"{len(faults):,} names cannot be used: {text}.")


def some(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def class_notes(classes: list[str]) -> list[str]:
    """What to tell about the names of class folders, in the order of their labels."""
    notes = []
    for group in same(classes, lambda name: NUMBER.sub("0", name)):  # fold1, fold2, fold10
        by_number = sorted(group, key=lambda name: [int(digits) for digits in NUMBER.findall(name)])
        if by_number != group:
            here, there = next((a, b) for a, b in zip(group, by_number, strict=True) if a != b)
            notes.append(
                f"labels follow the class names as text, not as numbers: label {classes.index(here)} is class {here}, "
                f"not {there}. For the order of numbers write all with as many digits (00, 01, ...)"
            )
            break
    for pair in same(classes, lambda name: unicodedata.normalize("NFC", name)):
        escaped = " and ".join(ascii(name) for name in pair)
        notes.append(f"a class is there in {len(pair)} Unicode forms ({escaped}), which are different classes")
    forms = {unicodedata.normalize("NFC", name) for name in classes}
    pairs = [" and ".join(pair) for pair in same(sorted(forms), str.casefold)]
    if pairs:
        counted = "1 pair of classes differs" if len(pairs) == 1 else f"{len(pairs):,} groups of classes differ"
        notes.append(f"{counted} in upper and lower case only ({some(pairs)}): one folder on macOS and Windows")
    return notes


def same(names: Iterable, key) -> list[list]:
    """Groups of two and more names that `key` makes equal."""
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def file_collisions(paths: list[bytes]) -> list[str]:
    """Files of one class folder whose names are one name on a file system that does not tell a from A, or the Unicode
    forms of a letter apart."""
    keys = {plain_key(path) for path in paths}
    return [printable(path) for group in same(paths, plain_key) for path in group] if len(keys) < len(paths) else []


def plain_key(path: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    if not name.isascii():
        name = unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return folder + slash + name.lower()


def form_hint(missing: list[str], extra: list[str]) -> str:
    """For class folders that one split lacks and another has: whether some are one name in another form."""
    there = {unicodedata.normalize("NFC", name).casefold(): name for name in extra}
    pairs = [(name, there.get(unicodedata.normalize("NFC", name).casefold())) for name in missing]
    found = [f"{a!a} and {b!a}" for a, b in pairs if b is not None]
    return f" {some(found)} differ in upper and lower case or in the Unicode form only." if found else ""
