"""A plan from the cache, completed by measurements where that is allowed. Imports torch only to measure."""

from collections.abc import Callable
from dataclasses import dataclass

from phases import Schedule
from training.config.config import Config
from training.data.dataset import checked_dataset
from training.plan.forecast import Forecast, forecast, missing
from training.plan.key import key_of
from training.plan.store import Measurements, read, write
from training.plan.work import work_of


@dataclass(frozen=True)
class Planned:
    """forecast: of the schedule; found: what it was made from; notes: lines to print; is_new: something was measured"""

    forecast: Forecast
    found: Measurements
    notes: tuple[str, ...]
    is_new: bool


def planned(
    name: str,
    config: Config,
    schedule: Schedule,
    warn: Callable[[str], None],
    may_measure: bool = True,
    origin_ns: int | None = None,
) -> Planned:
    """The plan of a run of one process. `name`: of the schedule, for the reader. Raises: ConfigError, DataError for
    input that cannot run; ConfigError for what the cache lacks where nothing may be measured."""
    dataset = checked_dataset(config, schedule)
    work, key = work_of(config, schedule, dataset), key_of(config, schedule, dataset)
    found = read(key, warn)
    notes: list[str] = []
    lacks = bool(missing(work, found))
    if lacks and may_measure:
        from training.plan.measure import measure  # imports torch

        notes = measure(config, schedule, dataset, work, found, origin_ns)
        write(key, found, warn)
    return Planned(forecast(name, config, work, found), found, tuple(notes), lacks and may_measure)
