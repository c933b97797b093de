"""The dataset of a run, checked before anything is built."""

from data_prep import Manifest, load_manifest, open_packed
from phases import Schedule
from training.config import Config
from training.outcome import ConfigError


def checked_dataset(config: Config, schedule: Schedule, world_size: int = 1) -> Manifest:
    """The manifest of config.data, after comparing every folder that the phases name with its own manifest.

    Raises: DataError for a dataset that is missing, half there or changed; ConfigError for one that the schedule does
    not fit.
    """
    root = config.data.rstrip("/")
    phases = [schedule.data_at(epoch) for epoch in range(schedule.total_epochs)]
    for suffix in sorted({p.trndir for p in phases} | {p.valdir for p in phases}):
        open_packed(root + suffix)
    dataset = load_manifest(root)
    if len(dataset.classes) < 2:
        raise ConfigError(f"{root}: {len(dataset.classes)} class. Training needs at least two")
    images = dataset.splits["train"].images
    for phase in phases:
        if phase.bs * world_size > images:
            raise ConfigError(
                f"{root}: batch {phase.bs * world_size} of the phase at epoch {phase.epoch} exceeds the {images} "
                f"training images. Use a smaller bs or --batch-size"
            )
    return dataset
