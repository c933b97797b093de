"""One trial: its choices as a run on the held-out images, watched, and ended early where it cannot win."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from dawn import Run, RunError, read_run
from dawn.runlog.records import Row
from phases import PhaseError, Schedule
from training.config.config import Config, with_values
from training.distributed.process import at_parents_death
from training.errors import ConfigError
from training.search.objective import Evidence, log_expected_seconds, seed_deviation
from training.search.settings import Settings
from training.search.space import (
    Choices,
    Space,
    Start,
    choices_of,
    flags_of,
    never_shrinks,
    phases_of,
    settings_of,
)
from training.search.storage import beat, freed, next_trial

POLL_SECONDS = 1.0
NOTE_EVERY = 10  # polls
GRID = 20  # points of the curve at which trials are compared, over the start's planned time
Planned = Callable[[Config, Schedule], float]  # seconds of T_total at this hardware


class Job(NamedTuple):
    settings: Settings
    start: Start
    space: Space
    planned: Planned
    start_seconds: float  # planned
    worker: str = ""  # name of this process in the trials


class Ended(NamedTuple):
    """How a trial came out. `accuracy` in percent of `images` held-out images; None without one."""

    state: TrialState
    reason: str
    accuracy: float | None = None
    images: int = 0


def try_next(job: Job, study: Study, best_seconds: float) -> FrozenTrial:
    """Ask for the next choices, run them unless they cannot win any more, and tell the result. `best_seconds`: expected
    for the best choices so far."""
    trial = next_trial(study, job.space, job.settings.folder, job.worker)
    try:
        return told(job, study, trial, best_seconds)
    except UpdateFinishedTrialError:  # its heartbeat was away for too long: another process took it for lost
        return study._storage.get_trial(trial._trial_id)
    except KeyboardInterrupt:  # nobody need wait until its heartbeat is missed
        with suppress(UpdateFinishedTrialError):
            note_time(trial)
        freed(study, study._storage.get_trial(trial._trial_id))
        raise


def note_time(trial: Trial) -> None:
    """What it has taken so far. Of a trial whose process is killed the last note counts."""
    trial.set_user_attr("wall_seconds", (datetime.now() - trial.datetime_start).total_seconds())


def told(job: Job, study: Study, trial: Trial, best_seconds: float) -> FrozenTrial:
    ended = tried(job, study, trial, best_seconds)
    note_time(trial)
    trial.set_user_attr("reason", ended.reason)
    if ended.accuracy is not None:
        trial.set_user_attr("accuracy", ended.accuracy)
        trial.set_user_attr("images", ended.images)
    value = worth(job, study, trial, ended) if ended.state == TrialState.COMPLETE else None
    return study.tell(trial, value, state=ended.state)


def tried(job: Job, study: Study, trial: Trial, best_seconds: float) -> Ended:
    choices = all_choices(job, trial.params | job.space.fixed)
    try:
        phases = phases_of(job.start, choices)
        schedule = Schedule.parse(phases)
        if never_shrinks(job.start.schedule) and not never_shrinks(schedule):
            return Ended(TrialState.PRUNED, "its images get smaller, those of the start do not")
        seconds = job.planned(config_of(job, choices, phases), schedule)
    except (PhaseError, ConfigError) as error:
        return Ended(TrialState.PRUNED, f"no schedule: {error}")
    trial.set_user_attr("planned_seconds", seconds)
    repeated = key_of(trial.params) in groups(study)  # it always runs to its end: else it would come again for ever
    if seconds >= best_seconds and not repeated:
        return Ended(TrialState.PRUNED, "longer than the best, even if it reached the target every time")
    folder = job.settings.folder / "trials" / f"{trial.number:04}"
    trial.set_user_attr("folder", str(folder))
    return watched(command_of(job, choices, phases, folder, trial.number), folder, trial, job, seconds, not repeated)


def all_choices(job: Job, choices: Choices) -> Choices:
    """A choice that the space does not have is the start's."""
    return choices_of(job.start) | choices


def config_of(job: Job, choices: Choices, phases: list) -> Config:
    return with_values(replace(job.settings.config, phases=json.dumps(phases)), settings_of(job.start, choices))


def command_of(job: Job, choices: Choices, phases: list, folder: Path, number: int) -> list[str]:
    """A run on the rest of the training images. Its seed is its own: a seed that wins by luck wins once."""
    settings = job.settings
    return [
        *(sys.executable, "-m", "training"),
        *settings.flags,
        *flags_of(job.start, choices),
        *("--phases", json.dumps(phases), "--holdout", f"{settings.config.holdout:.15g}"),
        *("--target", settings.config.target, "--no-stop-at-target"),
        *("--seed", f"{settings.seed + number}", "--logdir", str(folder)),
        *("--no-chart", "--no-tensorboard"),
    ]


def watched(command: list[str], folder: Path, trial: Trial, job: Job, seconds: float, may_prune: bool) -> Ended:
    """The run, until it ends or the pruner ends it. Its output goes to a file beside its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    with log.open("w") as output, Child(command, output) as child:
        reported = polls = 0
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            beat(trial)
            polls += 1
            if polls % NOTE_EVERY == 0:
                note_time(trial)
            reported = report(trial, folder, job, seconds, reported)
            if may_prune and trial.should_prune():
                return Ended(TrialState.PRUNED, "behind three quarters of the trials", *accuracy_of(folder, job))
    accuracy = accuracy_of(folder, job)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of hundreds of trials; nobody needs their weights
    if child.returncode not in (0, 3):
        return Ended(TrialState.FAIL, f"exit code {child.returncode}: {last_line(log)}", *accuracy)
    return Ended(TrialState.COMPLETE, "", *accuracy) if accuracy else Ended(TrialState.FAIL, "no validation")


class Child:
    """A child that outlives neither the block nor this process: it is asked to end, then made to. Ctrl-C does not reach
    it: the search is interrupted and asks it to end. `output`: a file for what it prints; None: as this process."""

    def __init__(self, command: list[str], output: IO[str] | None = None) -> None:
        self.child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
            preexec_fn=lambda: at_parents_death(signal.SIGTERM),
        )

    def __enter__(self) -> subprocess.Popen:
        return self.child

    def __exit__(self, *_) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def report(trial: Trial, folder: Path, job: Job, seconds: float, after: int) -> int:
    """The error so far, in percent, at the points of planned time behind `after`; trials are compared at equal ones.
    Returns the last point. An error and not the accuracy: the pruner takes less for better, as the study does."""
    for point, accuracy in curve(read(folder), job, seconds):
        if point > after:
            trial.report(100 - accuracy, point)
            after = point
    return after


def curve(run: Run | None, job: Job, seconds: float) -> Iterator[tuple[int, float]]:
    """(point, percent): planned time in units of the start's / GRID, counted from 1."""
    rows = validated(run)
    places = [row.until / run.start.total_epochs * seconds / job.start_seconds * GRID for row in rows]
    for row, place, until in zip(rows, places, [*places[1:], *(place + 1 for place in places[-1:])], strict=True):
        for point in range(int(place) + 1, int(until) + 1):
            yield point, row.validation.percent(job.start.config.metric)


def read(folder: Path) -> Run | None:
    try:
        return read_run(folder)
    except (OSError, RunError):  # not begun yet, or half a line
        return None


def validated(run: Run | None) -> list[Row]:
    return [row for row in run.rows if row.validation] if run else []


def accuracy_of(folder: Path, job: Job) -> tuple[float, int] | tuple[()]:
    """Of the last validation, in percent, and of how many images."""
    rows = validated(read(folder))
    return (rows[-1].validation.percent(job.start.config.metric), rows[-1].validation.images) if rows else ()


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no output"


# ---- what they are worth


def worth(job: Job, study: Study, trial: Trial, ended: Ended) -> float:
    mine = Evidence(trial.user_attrs["planned_seconds"], (ended.accuracy,), ended.images)
    return log_expected_seconds(mine, job.settings.target, seed_deviation([*groups(study).values()]))


def groups(study: Study) -> dict[str, list[float]]:
    """Accuracies of the completed trials with the same choices."""
    found: dict[str, list[float]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        found.setdefault(key_of(trial.params), []).append(trial.user_attrs["accuracy"])
    return found


def key_of(params: Choices) -> str:
    return json.dumps(params, sort_keys=True)


def spent_seconds(study: Study) -> float:
    """Of all processes and earlier starts, also of trials under way and of those that were killed."""
    return sum(trial.user_attrs.get("wall_seconds", 0.0) for trial in study.get_trials(deepcopy=False))
