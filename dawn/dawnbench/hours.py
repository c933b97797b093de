"""Which hours of a run can be believed, wherever hours are read: in entries, logs of other codes and event files."""

from datetime import date

SHORTEST_SECONDS = 0.1  # of a whole run
LONG_HOURS = 1_000  # six weeks; the longest run of DAWNBench took 401 hours
MOST_HOURS = 100_000  # eleven years
BEGINNING = date(2017, 1, 1)  # of the year of DAWNBench's first entries
CHECK_UNIT = "See whether its times are in seconds, milliseconds or hours"


def impossible_hours(hours: float, day: date | None = None) -> str:
    """Why no run took so many hours, "" where one may have: none at all, more than have passed between the beginning of
    2017 and the entry's `day`, or (without a day since then) more than MOST_HOURS."""
    if hours <= 0:
        return f"{hours!r} hours. {CHECK_UNIT}, and whether a start is lost"
    since = None if day is None or day < BEGINNING else ((day - BEGINNING).days + 1) * 24
    if since is not None and hours > since:
        words = f"the {since} from the beginning of 2017, the year of DAWNBench's first entries, to its day"
        return f"{hours:.10g} hours, more than {words}. {CHECK_UNIT}"
    return f"{hours:.10g} hours, more than {MOST_HOURS}. {CHECK_UNIT}" if hours > MOST_HOURS else ""


def doubtful_hours(hours: float) -> str:
    """What makes these hours, above 0, hard to believe; "" where nothing does."""
    if hours > LONG_HOURS:
        as_seconds = f"as seconds they would be {hours / 3600:.3g} hours"
        return f"{hours:.10g} hours, {hours / 24:.0f} days; {as_seconds}. {CHECK_UNIT}"
    return f"{hours * 3600:.3g} seconds. {CHECK_UNIT}" if hours * 3600 < SHORTEST_SECONDS else ""
