"""The command line of a search: its own flags, and those of the runs that it makes."""

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path

from training.config.config import Config
from training.config.parser import Parser, config_from
from training.distributed.launcher import ranks
from training.errors import ConfigError

# fields that change a run's schedule after it is read
RESCALING = ("epochs", "batch_size", "size_factor", "scale_lr", "start_epoch")
FIRST_SEED = 1_000_000_000  # of the confirmation; trials count from --seed
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Settings:
    config: Config  # the start, with the holdout of the trials
    target: float  # percent
    budget_seconds: float  # of all trials together, those of other processes too
    most_trials: int
    space: str
    storage: str  # '': a journal in the folder
    folder: Path
    confirm: int  # runs of winner and start on the test images, each
    seed: int  # of the sampler and of the first trial
    dry_run: bool
    flags: list[str]  # of the runs, as given


def parsed(arguments: list[str]) -> Settings:
    """Raises: ConfigError."""
    options, others = parser().parse_known_args(arguments)
    if ranks().world_size > 1:
        raise ConfigError("search: start it as one process. Several processes share one --storage, a device each")
    trial = ["--target", options.target, "--seed", f"{options.seed}", "--holdout", options.holdout]
    config = config_from([*others, *trial])
    if config.resume or config.evaluate or config.dry_run:
        raise ConfigError("search: makes its runs itself. Leave out --resume, --evaluate and --dry-run")
    if not config.target:
        raise ConfigError("search: needs a target. Give --target a percentage, such as 94")
    check_schedule_as_written(config)
    name = f"runs/search-{config.recipe or 'run'}-{options.target}"
    if not config.holdout:
        raise ConfigError("search: needs held-out images. Give --holdout a share or a number above 0")
    if options.confirm < 0 or options.trials < 1:
        raise ConfigError(f"--confirm {options.confirm} --trials {options.trials}: must be at least 0 and 1")
    if options.seed + options.trials > FIRST_SEED:
        raise ConfigError(
            f"--seed {options.seed}: trials count from it, and the seeds of the confirmation, which no trial may have, "
            f"begin at {FIRST_SEED}. Give a smaller one"
        )
    return Settings(
        config=replace(config, stop_at_target=False),
        target=float(options.target),
        budget_seconds=seconds_of(options.budget),
        most_trials=options.trials,
        space=options.space,
        storage=options.storage,
        folder=Path(options.logdir or name),
        confirm=options.confirm,
        seed=options.seed,
        dry_run=options.dry_run,
        flags=others,
    )


def check_schedule_as_written(config: Config) -> None:
    """Raises: ConfigError for a flag, or a setting of one's own recipe, that is no part of the trials' plans."""
    for name in RESCALING:
        if getattr(config, name) != getattr(Config(), name):
            raise ConfigError(
                f"--{name.replace('_', '-')}: a search plans its schedules as they are written. Leave it out: write "
                "the start into --phases or the range into --space"
            )


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m training search",
        allow_abbrev=False,
        description="Find the schedule that reaches a target soonest here, on held-out training images; confirm it on "
        "the test images with fresh seeds. The flags of a run may follow (python -m training --help).",
    )
    add = made.add_argument
    add("--target", required=True, help="accuracy in percent, of the recipe's metric")
    add("--budget", required=True, help="time of all trials together, such as 90s, 30m, 4h")
    add("--trials", type=int, default=1000, help="at most so many; default: 1000")
    add("--space", default="", metavar="FILE", help="JSON: other ranges, choices or fixed values")
    add("--storage", default="", metavar="URL", help="database that several machines share; default: a journal file")
    add("--logdir", default="", help="folder of the search; default: runs/search-RECIPE-TARGET")
    add("--holdout", default="0.1", help="held-out training images: a share below 1 or a number; default: 0.1")
    add("--confirm", type=int, default=5, help="runs on the test images of winner and start, each; default: 5")
    add("--seed", type=int, default=0, help="of the first trial; default: 0")
    add("--dry-run", action="store_true", help="print the space and the start's planned time, and end")
    return made


def seconds_of(text: str) -> float:
    """'90', '90s', '30m', '4h', '1.5d'. Raises: ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not match or not float(match[1]):
        raise ConfigError(f"--budget {text}: write a time above 0, such as 90s, 30m or 4h")
    return float(match[1]) * UNITS[match[2] or "s"]
