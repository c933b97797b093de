"""Reading what --inspect stored in a run folder: the counts of the last validation and the images of every one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_prep.files import NPZ_ERRORS
from dawn.filekind import wrong_kind
from training.config.saved import read_config
from training.errors import ConfigError
from training.inspect.counts import CALIBRATION_BINS, NOTHING, THRESHOLDS, Counts
from training.inspect.predictions import COUNTS, FOLDER, Images, epoch_file, epoch_of
from training.logs.metrics import INSPECTION

AGAIN = "Restore it, or train again with --inspect"


class Stored(NamedTuple):
    """Of a run. `folder`: RUN/inspect; `counts` of the validation after `epoch` (0-based), the last one; `images` by
    epoch, at least one."""

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
