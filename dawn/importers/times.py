"""Times of foreign logs: the unit of a time since 1970, and which hours of a run can be believed."""

from dawn.runlog.writer import RunError

UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
EARLIEST, LATEST = 1e9, 4.2e9  # seconds since 1970: the years 2001 to 2103
SHORTEST_SECONDS = 0.1  # of a whole run
LONG_HOURS = 1_000  # six weeks; the longest run of DAWNBench took 401 hours
MOST_HOURS = 100_000  # eleven years
CHECK_UNIT = "See whether its times are in seconds, milliseconds or hours"


def unit_since_1970(time: float) -> str | None:
    """The key of UNITS in which `time` lies between 2001 and 2103; None where it does not in any."""
    return next((unit for unit, seconds in UNITS.items() if EARLIEST <= time * seconds <= LATEST), None)


def hours_notes(where: str, hours: float) -> list[str]:
    """What is to be told of a run whose last evaluation stands at `hours`. RunError where no run has that."""
    stands = f"{where}: its last evaluation stands at"
    if hours <= 0:
        raise RunError(f"{stands} {hours!r} hours. {CHECK_UNIT}, and whether a start is lost.")
    if hours > MOST_HOURS:
        raise RunError(f"{stands} {hours:.10g} hours, more than {MOST_HOURS}. {CHECK_UNIT}.")
    if hours > LONG_HOURS:
        return [f"its last evaluation stands at {hours:.10g} hours, {hours / 24:.0f} days. {CHECK_UNIT}."]
    if hours * 3600 < SHORTEST_SECONDS:
        return [f"its last evaluation stands at {hours * 3600:.3g} seconds. {CHECK_UNIT}."]
    return []
