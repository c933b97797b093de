"""The dataset of a run, checked before anything is built."""

from data_prep import Manifest, load_manifest, open_packed
from phases import DataPhase, Schedule
from training.config import Config
from training.outcome import ConfigError


def checked_dataset(config: Config, schedule: Schedule) -> Manifest:
    """The manifest of config.data, after comparing every folder that the phases name with its own manifest.

    Raises: DataError for a dataset that is missing, half there or changed; ConfigError for one that the schedule or
    the augmentation does not fit.
    """
    root = config.data.rstrip("/") or "/"
    dataset = load_manifest(root)
    if len(dataset.classes) < 2:
        raise ConfigError(f"{root}: {len(dataset.classes)} class. Training needs at least two")
    for suffix in sorted({p.trndir for p in schedule.data} | {p.valdir for p in schedule.data}):
        check_folder(config, root + suffix, dataset)
    if any(phase.rect_val for phase in schedule.data):
        raise ConfigError("rect_val: packed images have one shape. Leave rect_val out of the phases")
    for phase in schedule.data:
        check_batch(config, root, phase, dataset.splits["train"].images)
    return dataset


def check_folder(config: Config, folder: str, dataset: Manifest) -> None:
    """`folder` must hold the images of `dataset`, perhaps at another size."""
    other = load_manifest(folder)
    for split in ("train", "validation"):
        if (other.classes, other.splits[split].per_class) != (dataset.classes, dataset.splits[split].per_class):
            raise ConfigError(
                f"{folder}: its {split} images are not those of {config.data}: {other.splits[split].images} in "
                f"{len(other.classes)} classes. Make it from the same dataset"
            )
    side = min(open_packed(folder)["train"].images.shape[1:3])
    if config.shift >= side:
        raise ConfigError(f"--shift {config.shift}: must be smaller than the stored images of {side} px in {folder}")


def check_batch(config: Config, root: str, phase: DataPhase, images: int) -> None:
    steps = images // phase.bs
    if not steps:
        raise ConfigError(
            f"{root}: batch {phase.bs} of the phase at epoch {phase.epoch} exceeds the {images} "
            f"training images. Use a smaller bs or --batch-size"
        )
    if config.ema_decay and config.ema_every > steps:
        raise ConfigError(
            f"--ema-every {config.ema_every}: the phase at epoch {phase.epoch} has {steps} steps an epoch, so its "
            f"average would never be updated. Use {steps} or less"
        )
