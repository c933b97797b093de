"""Times of foreign logs: the unit of a time since 1970, and what is told of hours that can hardly be believed."""

from dawn.dawnbench.hours import doubtful_hours, impossible_hours
from dawn.runlog.writer import RunError

UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
EARLIEST, LATEST = 1e9, 4.2e9  # seconds since 1970: the years 2001 to 2103


def unit_since_1970(time: float) -> str | None:
    """The key of UNITS in which `time` lies between 2001 and 2103; None where it does not in any."""
    return next((unit for unit, seconds in UNITS.items() if EARLIEST <= time * seconds <= LATEST), None)


def hours_notes(where: str, hours: float) -> list[str]:
    """What is to be told of a run whose last evaluation stands at `hours`. RunError where no run has that."""
    stands = "its last evaluation stands at"
    if reason := impossible_hours(hours):
        raise RunError(f"{where}: {stands} {reason}.")
    return [f"{stands} {reason}." for reason in [doubtful_hours(hours)] if reason]
