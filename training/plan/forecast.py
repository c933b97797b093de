"""From counts of work and measured times to the ledger of a run that has not run: every clock, with an interval. No
torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from dawn.runlog.clock import LABELS, clocks_of
from training.config.config import Config
from training.errors import ConfigError
from training.plan.accuracy import Accuracy
from training.plan.fit import check_time, entry_time, step_time
from training.plan.store import CheckTime, Measurements, StepTime
from training.plan.work import Checking, Stretch, Work

# Shares of a time by which the run may differ from it, beside the spread of the measured steps: what a machine drifts
# between the plan and the run. Assumed, not measured: docs/plan.md says so.
MEASURED, FITTED, ONCE = 0.05, 0.10, 0.5


class NotMeasuredError(ConfigError):
    """The measurements do not tell what a plan needs."""


class Estimate(NamedTuple):
    """Seconds."""

    value: float
    error: float  # the interval is value - error to value + error

    def __add__(self, other: "Estimate") -> "Estimate":
        """Errors add up: what makes one stretch slow makes the others slow, too."""
        return Estimate(self.value + other.value, self.error + other.error)

    def times(self, factor: float) -> "Estimate":
        return Estimate(self.value * factor, self.error * factor)


NOTHING = Estimate(0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """A stretch of the schedule with its times."""

    stretch: Stretch
    step: StepTime
    is_measured: bool
    wait: Estimate  # for images, in all steps
    train: Estimate
    check: Estimate  # all validations
    switch: Estimate
    save: Estimate  # inside the epochs

    @property
    def seconds(self) -> float:
        return sum(part.value for part in (self.wait, self.train, self.check, self.switch, self.save))


@dataclass(frozen=True)
class Forecast:
    """A run's ledger, planned. `name`: of the schedule; `factor`: by which the times for hardware that is not here may
    be wrong, else 1."""

    name: str
    rows: tuple[Row, ...]
    ledger: dict[str, Estimate]  # by label of the clock
    precision: str
    device: str
    factor: float = 1.0
    accuracy: Accuracy | None = None  # at the end; None: nothing supports a number
    peak_bytes: int | None = None  # of the whole run; None where no part of it is known

    @property
    def is_extrapolated(self) -> bool:
        return self.factor != 1.0

    @property
    def clocks(self) -> dict[str, float]:
        """Seconds on every clock, total first."""
        return clocks_of({label: time.value for label, time in self.ledger.items()})

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        if self.is_extrapolated:
            return {clock: (seconds / self.factor, seconds * self.factor) for clock, seconds in self.clocks.items()}
        lowest = clocks_of({label: max(0.0, time.value - time.error) for label, time in self.ledger.items()})
        highest = clocks_of({label: time.value + time.error for label, time in self.ledger.items()})
        return {clock: (lowest[clock], highest[clock]) for clock in lowest}


def forecast(name: str, config: Config, work: Work, found: Measurements) -> Forecast:
    """Raises: NotMeasuredError that says what `found` lacks."""
    if lacking := missing(work, found):
        raise NotMeasuredError(
            f"not in the cache: {'; '.join(lacking[:4])}{' and more' if len(lacking) > 4 else ''}. "
            "Leave out --no-measure to measure it"
        )
    rows = tuple(row_of(config, work, found, item) for item in work.stretches)
    start = found.start
    ledger = dict.fromkeys(LABELS, NOTHING) | {
        "init": rough(start.init),
        "prepare": rough(start.prepare),
        "warm": rough(start.warm * work.shapes),
        "data": total(row.wait for row in rows),
        "train": total(row.train for row in rows),
        "eval": total(row.check for row in rows),
        "switch": total(row.switch for row in rows),
        "checkpoint": total(row.save for row in rows) + rough(work.saves * start.checkpoint),
    }
    return Forecast(name, rows, ledger, start.precision, start.device, peak_bytes=peak_bytes(work, found))


def peak_bytes(work: Work, found: Measurements) -> int | None:
    """Of all that the run does. A checkpoint comes on top of the largest: freed memory stays with the process."""
    peaks = [step_time(found, point)[0].peak_bytes or 0 for point in work.trainings]
    peaks += [check_time(found, point)[0].peak_bytes for point in work.checkings]
    peaks += [entry_time(found, point).peak_bytes for point in work.entries]
    return max(peaks) + found.start.checkpoint_bytes if any(peaks) else None


def missing(work: Work, found: Measurements) -> list[str]:
    """What a plan needs and `found` does not tell, in words."""
    lacking = [] if found.start else ["the start of a run"]
    lacking += [
        f"a training step at {p.size} px, batch {p.batch}" for p in work.trainings if not step_time(found, p)[0]
    ]
    lacking += [f"a validation at {p.size} px" for p in work.checkings if not check_time(found, p)[0]]
    return lacking + [f"entering {p.training.size} px" for p in work.entries if entry_time(found, p) is None]


def row_of(config: Config, work: Work, found: Measurements, item: Stretch) -> Row:
    step, is_measured = step_time(found, item.training)
    error = (MEASURED if is_measured else FITTED) + step.spread
    wait = Estimate(item.steps * step.wait, item.steps * step.wait * error)
    busy = item.steps * (step.joint - step.wait)
    train = Estimate(busy, busy * error) + rough(step.first)
    check = NOTHING
    if item.checks:
        time, known = check_time(found, item.checking)
        once = check_seconds(work, found, item.checking, time)
        check = Estimate(once, once * ((MEASURED if known else FITTED) + time.spread)).times(item.checks)
    entry = rough(entry_time(found, item.enters).seconds) if item.enters else NOTHING
    inside = saves_inside(config, (wait.value + train.value) / item.epochs) * round(item.epochs)
    return Row(item, step, is_measured, wait, train, check, entry, rough(inside * found.start.checkpoint))


def check_seconds(work: Work, found: Measurements, point: Checking, time: CheckTime) -> float:
    """Of one validation of all images."""
    pixels = found.shapes.get(point, float(point.size**2))
    return work.validation_images * pixels * time.per_pixel


def saves_inside(config: Config, epoch_seconds: float) -> int:
    """Checkpoints inside an epoch, by --checkpoint-minutes."""
    return int(epoch_seconds / (60 * config.checkpoint_minutes)) if config.checkpoint_minutes else 0


def rough(seconds: float) -> Estimate:
    return Estimate(seconds, ONCE * seconds)


def total(parts: Iterable[Estimate]) -> Estimate:
    return sum(parts, NOTHING)
