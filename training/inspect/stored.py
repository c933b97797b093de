"""Reading what --inspect stored in a run folder: the counts of the last validation and the images of every one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_prep.files import NPZ_ERRORS
from dawn.filekind import wrong_kind
from training.config.saved import read_config
from training.errors import ConfigError
from training.inspect.counts import CALIBRATION_BINS, THRESHOLDS, Counts
from training.inspect.predictions import COUNTS, Images
from training.logs.metrics import INSPECTION

AGAIN = "Evaluate the run again with --inspect, or restore the file"


class Stored(NamedTuple):
    """Of a run. `folder`: RUN/inspect; `counts` of the validation after `epoch` (0-based), the last one; `images` by
    epoch, at least one."""

    folder: Path
    counts: Counts
    epoch: int
    images: dict[int, Images]


def read_stored(run: Path) -> Stored:
    """Raises: ConfigError for a run without inspection and for a damaged file."""
    config = read_config(run)  # a folder that is no run says so
    folder = run / INSPECTION
    files = sorted((folder / "epochs").glob("*.npz"))
    if not has_validation(run):
        if config.inspect == "off":
            raise ConfigError(f"{run}: was not inspected. Train with --inspect light or full")
        raise ConfigError(f"{run}: has no validation that was inspected. Let the run come to its first one")
    images = {int(path.stem): Images(**arrays(path, Images._fields)) for path in files if path.stem.isdecimal()}
    found = arrays(folder / COUNTS, (*Counts._fields, "epoch"))
    epoch = int(found.pop("epoch"))
    counts = Counts(**{name: torch.from_numpy(part) for name, part in found.items()})
    check_shapes(folder / COUNTS, counts)
    for number, seen in images.items():
        if len({len(column) for column in seen}) != 1 or seen.labels.min(initial=0) < 0:
            raise damaged(folder / "epochs" / f"{number:04d}.npz", "its columns differ in length")
    return Stored(folder, counts, epoch, images)


def has_validation(run: Path) -> bool:
    """Not of a run that ended before its first one."""
    return (run / INSPECTION / COUNTS).is_file() and any((run / INSPECTION / "epochs").glob("*.npz"))


def arrays(path: Path, names: tuple[str, ...], remedy: str = AGAIN) -> dict[str, np.ndarray]:
    """The arrays `names` of a file. Raises: ConfigError for a damaged file and one that lacks some."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except NPZ_ERRORS as error:
        raise damaged(path, wrong_kind(path, "zip") or " ".join(str(error).split())[:80], remedy) from None


def check_shapes(path: Path, counts: Counts) -> None:
    classes = len(counts.confusion)
    expected = ((classes, classes), (2, classes, THRESHOLDS), (2, CALIBRATION_BINS), (CALIBRATION_BINS,))
    if tuple(tuple(part.shape) for part in counts) != expected:
        raise damaged(path, "its arrays do not fit each other")


def damaged(path: Path, reason: str, remedy: str = AGAIN) -> ConfigError:
    return ConfigError(f"{path}: is damaged ({reason}). {remedy}")
