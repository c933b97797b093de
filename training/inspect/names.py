"""What the classes and files of an inspected run are called."""

import os
from pathlib import Path
from typing import NamedTuple

from data_prep import DataError, load_manifest
from data_prep.formats.image_index import index_name
from dawn import read_run
from training.config.config import Config
from training.data.dataset import index_of
from training.inspect.stored import Stored


class Names(NamedTuple):
    classes: list[str]  # by label
    files: list[str]  # by row of the validation split
    known: bool  # whether these are those of the dataset


def short(name: str) -> str:
    """For a caption."""
    return name if len(name) <= 18 else f"{name[:17]}…"


def names_of(run: Path, config: Config, stored: Stored) -> Names:
    """Of the run's dataset; numbers where it is gone or another one."""
    classes = [f"class {label}" for label in range(len(stored.counts.confusion))]
    known, last = False, stored.images[max(stored.images)]
    files = [f"validation image {row}" for row in range(int(last.rows.max(initial=0)) + 1)]
    try:
        manifest = load_manifest(config.data)
        if manifest.sha256 == read_run(run).start.dataset.get("sha256"):
            classes, known = list(manifest.classes), True
            if index_name("validation") in manifest.splits["validation"].files:
                paths = index_of(config, config.data)["validation"].paths
                files = [os.fsdecode(path).encode("utf-8", "backslashreplace").decode() for path in paths]
    except DataError:
        pass
    return Names(classes, files, known)
