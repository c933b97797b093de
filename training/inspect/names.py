"""What the classes and files of an inspected run are called, also after its dataset was moved."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from data_prep import DataError, load_manifest
from data_prep.files import write_atomically
from data_prep.formats.image_index import index_name
from dawn import read_run
from phases import Schedule
from training.config.config import Config
from training.data.dataset import index_of
from training.inspect.stored import Stored, damaged

FILE = "names.json"
REMEDY = "Restore it, or move the dataset back and remove the file"


class Names(NamedTuple):
    classes: list[str]  # by label
    files: list[str]  # by row of the validation split
    known: bool = True  # whether these are those of the dataset


def short(name: str) -> str:
    """For a caption."""
    return name if len(name) <= 18 else f"{name[:17]}…"


def names_of(run: Path, config: Config, stored: Stored) -> Names:
    """Of the run's dataset; where it is gone or another one those that `keep_names` stored, and without them numbers.
    Raises: ConfigError for a damaged file of stored names."""
    classes = [f"class {label}" for label in range(len(stored.counts.confusion))]
    last = stored.images[max(stored.images)]
    files = [f"validation image {row}" for row in range(int(last.rows.max(initial=0)) + 1)]
    try:
        root = config.data.rstrip("/") + Schedule.parse(config.phases).data[0].trndir  # as the run's log names it
        manifest = load_manifest(root)
        if manifest.sha256 == read_run(run).start.dataset.get("sha256"):
            if index_name("validation") in manifest.splits["validation"].files:
                paths = index_of(config, root)["validation"].paths
                files = [os.fsdecode(path).encode("utf-8", "backslashreplace").decode() for path in paths]
            return Names(list(manifest.classes), files)
    except DataError:
        pass
    if (path := stored.folder / FILE).exists():
        return read_names(path, len(classes), len(files))
    return Names(classes, files, known=False)


def keep_names(folder: Path, names: Names) -> None:
    """In RUN/inspect, for the day when the dataset is gone. Raises: OSError."""
    if names.known and not (folder / FILE).exists():
        content = json.dumps({"classes": names.classes, "files": names.files}, indent=0, ensure_ascii=False)
        write_atomically(folder / FILE, content.encode())


def read_names(path: Path, classes: int, files: int) -> Names:
    """At least `files` of them. Raises: ConfigError for a damaged file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = Names(record["classes"], record["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, " ".join(str(error).split())[:80], REMEDY) from None
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in found[:2]):
        raise damaged(path, "it has no lists of names", REMEDY)
    if len(found.classes) != classes or len(found.files) < files:
        raise damaged(path, f"its names are not of {classes} classes and {files} files", REMEDY)
    return found
