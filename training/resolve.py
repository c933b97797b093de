"""From the flags to the schedule that runs, and its dry run. No torch."""

import os
from collections.abc import Callable
from dataclasses import asdict

from data_prep import DataError, load_manifest
from phases import Schedule, batch_warning
from phases.table import schedule_table
from training.config import Config
from training.dataset import folders_of


def world_size() -> int:
    """Processes of this run: torchrun's WORLD_SIZE, else 1."""
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isdigit() else 1


def resolved_schedule(config: Config, world_size: int, warn: Callable[[str], None]) -> Schedule:
    """--phases with --batch-size, --scale-lr and --epochs applied. Raises: PhaseError.

    Another global batch than the schedule's own is warned about, or with --scale-lr answered by the linear rule
    (arXiv:1706.02677, 2.1).
    """
    schedule = Schedule.parse(config.phases)
    if config.batch_size:
        schedule = schedule.with_batch_size(config.batch_size)
    if config.scale_lr:
        schedule = schedule.with_lr_factor(schedule.batch_ratio(world_size) or schedule.batch_factor)
    elif warning := batch_warning(schedule, world_size):
        warn(warning)
    return schedule.compressed(config.epochs) if config.epochs else schedule


def dry_run(config: Config, schedule: Schedule, world_size: int) -> str:
    """The resolved configuration, the schedule's table (steps and images where the dataset is there), and a line for
    every folder that is missing."""
    folders, missing = {}, []
    for folder in folders_of(config, schedule):
        try:
            folders[folder] = load_manifest(folder)
        except DataError as error:
            missing.append(f"MISSING: {error}")
    images = next((manifest.splits["train"].images for manifest in folders.values()), None)
    settings = [f"{name:18} {value}" for name, value in asdict(config).items() if value not in ("", None)]
    return "\n".join([*settings, "", schedule_table(schedule, world_size, images), *missing])
