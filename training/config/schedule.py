"""From the flags to the schedule that runs, and what is worth a warning about it. No torch."""

from collections.abc import Callable, Iterator
from pathlib import Path

from dawn import RunError, read_run
from phases import Schedule, batch_warning
from training.config.config import Config
from training.config.recipes.registry import origin
from training.errors import ConfigError


def resolved_schedule(config: Config, world_size: int, warn: Callable[[str], None]) -> Schedule:
    """--phases with --batch-size, --size-factor, --scale-lr and --epochs applied. Raises: PhaseError.

    Another global batch than the schedule's own is warned about, or with --scale-lr answered by the linear rule
    (arXiv:1706.02677, 2.1); so is what training/config/schedule.py finds.
    """
    schedule = Schedule.parse(config.phases)
    if config.batch_size:
        schedule = schedule.with_batch_size(config.batch_size)
    own_factor = schedule.batch_factor
    if config.resume and is_elastic(config, world_size):
        before = saved_world_size(config)
        if before != world_size:
            check_elastic_folder(config)
        schedule = with_world_size(schedule, before, world_size)
    if config.size_factor != 1:
        schedule = schedule.with_size_factor(config.size_factor)
    if config.scale_lr:
        schedule = schedule.with_lr_factor(schedule.batch_ratio(world_size) or own_factor)
    elif warning := batch_warning(schedule, world_size):
        warn(warning)
    schedule = schedule.compressed(config.epochs) if config.epochs else schedule
    for line in advice(config, schedule, world_size):
        warn(line)
    return schedule


def check_start_epoch(config: Config, schedule: Schedule) -> None:
    """Raises: ConfigError where --start-epoch leaves no epoch."""
    if config.start_epoch >= schedule.epochs:
        raise ConfigError(
            f"--start-epoch {config.start_epoch}: the schedule has {schedule.total_epochs} epochs, counted from 0"
        )


def is_elastic(config: Config, world_size: int) -> bool:
    """Whether the run to be resumed keeps its global batch on another number of devices: as the flag says now, or as it
    said in the attempt before."""
    if config.allow_elastic:
        return True
    try:
        return read_run(resumed_folder(config)).latest.world_size == world_size
    except RunError:  # killed before its first line
        return False


def saved_world_size(config: Config) -> int:
    """Devices that the run to be resumed was started with."""
    return read_run(resumed_folder(config)).start.world_size


def resumed_folder(config: Config) -> Path:
    """Of the run, or of the checkpoint, that --resume names."""
    path = Path(config.resume)
    return path if path.is_dir() else path.parent.parent


def check_elastic_folder(config: Config) -> None:
    """Raises: ConfigError for another folder, whose log would begin with the devices of now."""
    if config.logdir and Path(config.logdir).resolve() != resumed_folder(config).resolve():
        raise ConfigError(
            f"--logdir {config.logdir}: a run that goes on with another number of devices than it was started with "
            "stays in its folder. Leave --logdir out"
        )


def with_world_size(schedule: Schedule, before: int, now: int) -> Schedule:
    """Every phase's batch per device so that the global batch stays. Raises: ConfigError where it cannot."""
    for phase in schedule.data:
        if phase.bs * before % now:
            raise ConfigError(
                f"--allow-elastic: the global batch {phase.bs * before} of the phase at epoch {phase.epoch} does not "
                f"divide by {now} devices. Start a number of devices that divides it"
            )
    return schedule.with_batch_factor(before / now) if before != now else schedule


def advice(config: Config, schedule: Schedule, world_size: int) -> Iterator[str]:
    """A part that counts epochs does not shrink with --epochs, and copies of an image want to be on different ranks."""
    epochs = schedule.epochs
    if config.eval_from >= epochs:
        yield f"{told(config, 'eval_from')}: of the schedule's {epochs} epochs only the last is validated"
    if config.lookahead and config.lookahead_from >= schedule.total_epochs:
        yield f"{told(config, 'lookahead_from')}: the schedule has {schedule.total_epochs:g} epochs, so there is none"
    if config.mix_off_epoch >= epochs and (config.mixup or config.cutmix):
        yield f"{told(config, 'mix_off_epoch')}: the schedule has {epochs} epochs, so images are mixed to the end"
    if world_size < config.repeated_augmentation and (config.mixup or config.cutmix):
        yield (
            f"{told(config, 'repeated_augmentation')}: with fewer devices than that ({world_size}) copies of an image "
            "lie side by side, and mixup and cutmix mix many of them with each other"
        )


def told(config: Config, flag: str) -> str:
    return f"--{flag.replace('_', '-')} {getattr(config, flag)}{origin(config, flag)}"
