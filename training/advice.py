"""Settings that are allowed and hardly what somebody wants: a line of advice for each."""

from collections.abc import Iterator

from phases import Schedule
from training.config import Config
from training.dataset import origin


def advice(config: Config, schedule: Schedule, world_size: int) -> Iterator[str]:
    """A part that counts epochs does not shrink with --epochs, and copies of an image want to be on different ranks."""
    epochs = schedule.total_epochs
    if config.eval_from >= epochs:
        yield f"{told(config, 'eval_from')}: of the schedule's {epochs} epochs only the last is validated"
    if config.mix_off_epoch >= epochs and (config.mixup or config.cutmix):
        yield f"{told(config, 'mix_off_epoch')}: the schedule has {epochs} epochs, so images are mixed to the end"
    if world_size < config.repeated_augmentation and (config.mixup or config.cutmix):
        yield (
            f"{told(config, 'repeated_augmentation')}: with fewer devices than that ({world_size}) copies of an image "
            "lie side by side, and mixup and cutmix mix many of them with each other"
        )


def told(config: Config, flag: str) -> str:
    return f"--{flag.replace('_', '-')} {getattr(config, flag)}{origin(config, flag)}"
