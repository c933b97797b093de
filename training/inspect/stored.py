"""Reading what --inspect stored in a run folder: the counts of the last validation, the images of every one, and what
classes and files are called, also after the dataset was moved."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_prep import DataError, load_manifest
from data_prep.files import NPZ_ERRORS, write_atomically
from data_prep.formats.image_index import index_name
from dawn import read_run
from dawn.filekind import wrong_kind
from phases import Schedule
from training.config.config import Config
from training.config.saved import read_config
from training.data.dataset import index_of
from training.errors import ConfigError
from training.inspect.counts import CALIBRATION_BINS, NOTHING, THRESHOLDS, Counts
from training.inspect.predictions import COUNTS, FOLDER, Images, epoch_file, epoch_of
from training.logs.metrics import INSPECTION

AGAIN = "Restore it, or train again with --inspect"
NAMES = "names.json"
MOVED = "Restore it, or move the dataset back and remove the file"


class Stored(NamedTuple):
    """Of a run. `folder`: RUN/inspect; `counts` of the validation after `epoch` (0-based), the last one; `images` by
    epoch, at least one; none of a later epoch, which an attempt before the last one may have left there."""

    folder: Path
    counts: Counts
    epoch: int
    images: dict[int, Images]

    @property
    def tells_rows(self) -> bool:
        """Whether the loader told which images it gave: without rows no image has a file, or a loss at other epochs."""
        return all((seen.rows >= 0).all() for seen in self.images.values())


def read_stored(run: Path) -> Stored:
    """Raises: ConfigError for a run without inspection and for a damaged file."""
    config = read_config(run)  # a folder that is no run says so
    folder = run / INSPECTION
    files = sorted((folder / FOLDER).glob("*.npz"))
    if not has_validation(folder):
        if config.inspect == "off":
            raise ConfigError(f"{run}: was not inspected. Train with --inspect light or full")
        raise ConfigError(f"{run}: has no validation that was inspected. Let the run come to its first one")
    images = {epoch_of(path.stem): Images(**arrays(path, Images._fields)) for path in files if path.stem.isdecimal()}
    found = arrays(folder / COUNTS, (*Counts._fields, "epoch"))
    epoch = found.pop("epoch")
    counts = Counts(**{name: torch.from_numpy(part) for name, part in found.items()})
    check_shapes(folder / COUNTS, counts)
    if epoch.shape or epoch.dtype.kind != "i":
        raise damaged(folder / COUNTS, "its epoch is no number")
    if int(epoch) not in images:
        raise ConfigError(f"{epoch_file(folder, int(epoch))}: is missing. {AGAIN}")
    images = {n: seen for n, seen in images.items() if n <= int(epoch)}  # a resume went back behind the others
    for number, seen in images.items():
        check_images(epoch_file(folder, number), seen, counts)
    return Stored(folder, counts, int(epoch), images)


def has_validation(folder: Path) -> bool:
    """Whether RUN/inspect has something of one; not of a run that ended before its first one."""
    return (folder / COUNTS).is_file() or any((folder / FOLDER).glob("*.npz"))


def arrays(path: Path, names: tuple[str, ...], remedy: str = AGAIN) -> dict[str, np.ndarray]:
    """The arrays `names` of a file. Raises: ConfigError for a missing or damaged file and one that lacks some."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise ConfigError(f"{path}: is missing. {remedy}") from None
    except (*NPZ_ERRORS, TypeError) as error:  # TypeError: an .npy file, which has no names
        reason = "it is no .npz file" if "pickled" in str(error) else " ".join(str(error).split())[:80]
        raise damaged(path, wrong_kind(path, "zip") or reason, remedy) from None


def check_shapes(path: Path, counts: Counts) -> None:
    classes = len(counts.confusion)
    expected = ((classes, classes), (classes,), (2, classes, THRESHOLDS), (2, CALIBRATION_BINS), (CALIBRATION_BINS,))
    if tuple(tuple(part.shape) for part in counts) != expected:
        raise damaged(path, "its arrays do not fit each other")


def check_images(path: Path, seen: Images, counts: Counts) -> None:
    """Every validation of a run is of the same images."""
    classes, images = len(counts.confusion), int(counts.images.sum())
    if any(column.shape != (images,) for column in seen):
        raise damaged(path, f"its columns are not of {images} images")
    if "".join(column.dtype.kind for column in seen) != "iiiff":
        raise damaged(path, "its columns are of other types")
    for name, least, end in (("rows", -1, images), ("labels", 0, classes), ("predicted", NOTHING, classes)):
        column = getattr(seen, name)
        if column.min(initial=least) < least or column.max(initial=least) >= end:
            raise damaged(path, f"its {name} are not from {least} to {end - 1}")


def damaged(path: Path, reason: str, remedy: str = AGAIN) -> ConfigError:
    return ConfigError(f"{path}: is damaged ({reason}). {remedy}")


# names


class Names(NamedTuple):
    classes: list[str]  # by label
    files: list[str]  # by row of the validation split
    known: bool = True  # whether these are those of the dataset


def dataset_folder(config: Config) -> str:
    """Of the first data phase, as the run's log names the dataset. DATA itself need not be there."""
    return config.data.rstrip("/") + Schedule.parse(config.phases).data[0].trndir


def names_of(run: Path, config: Config, stored: Stored) -> Names:
    """Of the run's dataset; where it is gone or another one those that `keep_names` stored, and without them numbers.
    Raises: ConfigError for a damaged file of stored names."""
    classes = [f"class {label}" for label in range(len(stored.counts.confusion))]
    last = stored.images[max(stored.images)]
    files = [f"validation image {row}" for row in range(int(last.rows.max(initial=0)) + 1)]
    try:
        root = dataset_folder(config)
        manifest = load_manifest(root)
        if manifest.sha256 == read_run(run).start.dataset.get("sha256"):
            if index_name("validation") in manifest.splits["validation"].files:
                paths = index_of(config, root)["validation"].paths
                files = [os.fsdecode(path).encode("utf-8", "backslashreplace").decode() for path in paths]
            return Names(list(manifest.classes), files)
    except DataError:
        pass
    if (path := stored.folder / NAMES).exists():
        return read_names(path, len(classes), len(files))
    return Names(classes, files, known=False)


def keep_names(folder: Path, names: Names) -> None:
    """In RUN/inspect, for the day when the dataset is gone. Raises: OSError."""
    if names.known and not (folder / NAMES).exists():
        content = json.dumps({"classes": names.classes, "files": names.files}, indent=0, ensure_ascii=False)
        write_atomically(folder / NAMES, content.encode())


def read_names(path: Path, classes: int, files: int) -> Names:
    """At least `files` of them. Raises: ConfigError for a damaged file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = Names(record["classes"], record["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, " ".join(str(error).split())[:80], MOVED) from None
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in found[:2]):
        raise damaged(path, "it has no lists of names", MOVED)
    if len(found.classes) != classes or len(found.files) < files:
        raise damaged(path, f"its names are not of {classes} classes and {files} files", MOVED)
    return found
