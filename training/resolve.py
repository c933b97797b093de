"""From the flags to the schedule that runs, and its dry run. No torch, but for the dry run's estimate."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from data_prep import DataError, load_manifest
from dawn import read_run
from phases import Schedule, batch_warning, load_preset
from phases.table import schedule_table
from training.advice import advice
from training.config import Config
from training.dataset import checked_dataset, folders_of
from training.outcome import ConfigError, Ended, Outcome
from training.run_folder import LOG, RESUMABLE, ending, interrupted_folder

IMAGENET_CLASSES = 1000


def gone_on(config: Config, restarts: int) -> Config:
    """When a launcher has started the same command again (torchrun --max-restarts, a requeued Slurm job), it goes on
    with the run in --logdir, or with the newest run of its name, if that has begun. Raises: Ended."""
    folder = folder_before(config) if restarts and not config.resume else None
    if folder is None:
        return config
    if outcome := final_outcome(folder):
        text = f"{folder}: that run has ended ({outcome.value}); there is nothing to go on with"
        raise Ended(text, outcome.exit_code)
    return replace(config, resume=str(folder), logdir=str(folder))


def folder_before(config: Config) -> Path | None:
    folder = Path(config.logdir) if config.logdir else interrupted_folder(Path("runs"), config.recipe or "run")
    return folder if folder and (folder / LOG).exists() else None


def final_outcome(folder: Path) -> Outcome | None:
    """How the run in `folder` ended, when there is nothing to go on with."""
    outcome = ending(folder)
    return Outcome(outcome) if outcome not in (*RESUMABLE, "") else None


def resolved_schedule(config: Config, world_size: int, warn: Callable[[str], None]) -> Schedule:
    """--phases with --batch-size, --size-factor, --scale-lr and --epochs applied. Raises: PhaseError.

    Another global batch than the schedule's own is warned about, or with --scale-lr answered by the linear rule
    (arXiv:1706.02677, 2.1); so is what training/advice.py finds.
    """
    schedule = Schedule.parse(config.phases)
    if config.batch_size:
        schedule = schedule.with_batch_size(config.batch_size)
    if config.resume and config.allow_elastic:
        schedule = with_world_size(schedule, saved_world_size(config), world_size)
    if config.size_factor != 1:
        schedule = schedule.with_size_factor(config.size_factor)
    if config.scale_lr:
        schedule = schedule.with_lr_factor(schedule.batch_ratio(world_size) or schedule.batch_factor)
    elif warning := batch_warning(schedule, world_size):
        warn(warning)
    schedule = schedule.compressed(config.epochs) if config.epochs else schedule
    for line in advice(config, schedule, world_size):
        warn(line)
    return schedule


def saved_world_size(config: Config) -> int:
    """Devices that the run to be resumed was started with."""
    return read_run(config.logdir).start.world_size


def with_world_size(schedule: Schedule, before: int, now: int) -> Schedule:
    """Every phase's batch per device so that the global batch stays. Raises: ConfigError where it cannot."""
    for phase in schedule.data:
        if phase.bs * before % now:
            raise ConfigError(
                f"--allow-elastic: the global batch {phase.bs * before} of the phase at epoch {phase.epoch} does not "
                f"divide by {now} devices. Start as many that it does"
            )
    return schedule.with_batch_factor(before / now) if before != now else schedule


def dry_run(config: Config, schedule: Schedule, world_size: int) -> str:
    """The resolved configuration, the schedule's table (steps and images where the dataset is there), parameter groups
    and arithmetic, and a line for every folder that is missing. Without the dataset the estimate is for the images of
    the preset and for 1,000 classes."""
    from training.estimate import model_report  # imports torch

    folders, missing = {}, []
    for folder in folders_of(config, schedule):
        try:
            folders[folder] = load_manifest(folder)
        except DataError as error:
            missing.append(f"MISSING: {error}")
    found = next(iter(folders.values()), None)
    images = found.splits["train"].images if found else None
    classes = len(found.classes) if found else IMAGENET_CLASSES
    expected = images if found or not schedule.preset else load_preset(schedule.preset)["images"]
    if not missing:
        checked_dataset(config, schedule, world_size)
    model = model_report(config, schedule, world_size, expected, classes)
    missing += [] if found else [f"without the dataset {classes:,} classes are assumed"]
    settings = [f"{name:18} {value}" for name, value in asdict(config).items() if value not in ("", None)]
    return "\n".join([*settings, "", schedule_table(schedule, world_size, images), "", model, *missing])
