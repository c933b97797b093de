"""The commands as functions: `from training import Config, recipe, resumed, train, evaluate` (docs/python.md).

Bad input is a ConfigError with the line that the command would print. A crash raises its own error.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep import DataError
from dawn import Run, RunError, read_run
from dawn.commandline import safe_output
from dawn.runlog.records import Validation
from phases import PhaseError, Schedule
from training.config.config import Config, with_values
from training.config.parser import new_base, runnable, saved_config
from training.config.schedule import resolved_schedule
from training.distributed.launcher import ranks
from training.errors import ConfigError, Diverged, Outcome, Preempted
from training.runs.session import trained, validate_only, warn


def recipe(name: str, **settings: Any) -> Config:
    """The Config of a recipe, one of ours or FILE.py:FUNCTION, with other values for some of its fields. Raises:
    ConfigError."""
    return with_values(new_base(name), settings)


def resumed(run: str | Path) -> Config:
    """The Config that goes on with an interrupted run: what --resume RUN is. Raises: ConfigError."""
    given = {"resume": str(run)}
    return with_values(saved_config(given), given)


def train(config: Config) -> Run:
    """Train as `python -m training` does, in a run folder, and read its log: also of a run that missed its target.

    Raises: ConfigError; Diverged; Preempted after SIGTERM or Ctrl-C, when the state is saved.
    """
    origin_ns = time.monotonic_ns()
    with input_errors():
        config = replace(runnable(config), evaluate=False)
        outcome, folder = trained(config, schedule_of(config), origin_ns)
        run = read_run(folder)
    if outcome is Outcome.DIVERGED:
        raise Diverged(f"{folder}: the training loss was not finite. {folder}/run.jsonl says where")
    if outcome is Outcome.PREEMPTED:
        raise Preempted(f"{folder}: interrupted and saved. Go on with train(resumed({str(folder)!r}))")
    return run


def evaluate(run: str | Path | Config) -> Validation:
    """The counts of the newest checkpoint of a run folder on its validation images; of a Config without `resume` those
    of untrained weights. Raises: ConfigError."""
    with input_errors():
        config = replace(runnable(run if isinstance(run, Config) else resumed(run)), evaluate=True)
        return validate_only(config, schedule_of(config))


def schedule_of(config: Config) -> Schedule:
    return resolved_schedule(config, ranks().world_size, warn if ranks().rank == 0 else lambda text: None)


@contextmanager
def input_errors() -> Iterator[None]:
    """Every kind of bad input as the one error that callers need to know; the output may be any."""
    try:
        with safe_output():
            yield
    except (DataError, PhaseError, RunError) as error:
        raise ConfigError(str(error)) from error
