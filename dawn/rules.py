"""What must be true of an epoch line and the lines before it; a log that breaks a rule gives no report.

Each rule is one sentence about the line, or about it and the epoch before. Which fields a line must have is in
records.py, the order of the lines in run.py.
"""

from collections.abc import Iterator
from typing import Any

from dawn.clock import RUN_LABELS
from dawn.records import CLOCKS, Row, Stop

ROUNDING_SECONDS = 1e-6  # of sums of floats; the clock itself counts whole nanoseconds
EXCLUDED = {"total": (), "dawn": ("eval", "checkpoint")}  # labels that a clock leaves out
PHASE_FIELDS = ("size", "batch_size", "global_batch_size")


def broken_rule(row: Row, before: Row | None, phase: dict[str, Any] | None, validation_images: int) -> str | None:
    """The first rule that `row` breaks, as a sentence. `phase`: the phase line that holds, `validation_images`: how
    many the dataset has."""
    return next(_broken(row, before, phase, validation_images), None)


def broken_stop(stop: Stop, last: Row | None) -> str | None:
    """The same for a stop line; `last`: the last epoch line."""
    if last and stop.clock["total"] < last.clock["total"]:
        return "stops before its last epoch ended"
    for clock, out in EXCLUDED.items():
        passed = sum(stop.seconds[name] for name in RUN_LABELS if name not in out)
        if abs(stop.clock[clock] - passed) > ROUNDING_SECONDS:
            return f"clock {clock!r} is {stop.clock[clock]:.6f} s, its 'seconds' are {passed:.6f}"
    return None


def _broken(row: Row, before: Row | None, phase: dict[str, Any] | None, validation_images: int) -> Iterator[str]:
    then = before.clock if before else dict.fromkeys(CLOCKS, 0.0)
    for clock in ("total", "dawn"):
        if row.clock[clock] <= then[clock]:
            yield f"clock {clock!r} does not go forward"
    for clock in ("train", "cold"):
        if row.clock[clock] < then[clock]:
            yield f"clock {clock!r} goes back"
    if not row.clock["train"] <= row.clock["dawn"] <= row.clock["total"] <= row.clock["cold"]:
        yield "the clocks contradict each other (train <= dawn <= total <= cold)"
    if before and row.images_seen <= before.images_seen:
        yield "'images_seen' does not grow"
    yield from _broken_sums(row, before)
    yield from (
        f"{name!r} is {getattr(row, name)}, {phase[name]} in the phase line"
        for name in PHASE_FIELDS
        if phase and getattr(row, name) != phase[name]
    )
    if row.validation and row.validation.images != validation_images:
        yield f"validated on {row.validation.images} images, the dataset has {validation_images}"


def _broken_sums(row: Row, before: Row | None) -> Iterator[str]:
    """The ledger adds up to the clocks, and steps to images."""
    seconds = {clock: sum(row.seconds[n] for n in RUN_LABELS if n not in out) for clock, out in EXCLUDED.items()}
    seconds["train"] = row.seconds["data"] + row.seconds["train"]
    for clock, passed in seconds.items():
        went = row.clock[clock] - (before.clock[clock] if before else 0.0)
        if abs(went - passed) > ROUNDING_SECONDS:
            yield f"clock {clock!r} went on by {went:.6f} s, its 'seconds' are {passed:.6f}"
    if before and abs(_setup(row) - _setup(before)) > ROUNDING_SECONDS:
        yield "clock 'cold' went on by another time than 'total'"
    if row.images != row.steps * row.global_batch_size:
        yield f"'images' is {row.images}, {row.steps} steps of {row.global_batch_size} are others"
    if row.images_seen != (before.images_seen if before else 0) + row.images:
        yield f"'images_seen' is {row.images_seen}, not the sum of the epochs so far"


def _setup(row: Row) -> float:
    return row.clock["cold"] - row.clock["total"]
