"""Plans from the cache, completed by measurements where that is allowed. Imports torch only for what is lacking."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from data_prep import DataError, Manifest
from phases import Schedule
from training.config.config import Config
from training.config.schedule import check_start_epoch
from training.data.dataset import check_schedule, checked_folders, folders_of, loader_name
from training.errors import ConfigError
from training.plan.accuracy import accuracy_of
from training.plan.elsewhere.extrapolate import Basis, extrapolated, seen_here
from training.plan.elsewhere.hardware import Hardware
from training.plan.forecast import Forecast, NotMeasuredError, forecast, missing
from training.plan.key import key_of, settings_of
from training.plan.memory import check_plan
from training.plan.store import Measurements, read, refresh, write
from training.plan.work import Work, work_of


@dataclass(frozen=True)
class Planned:
    """forecast: of the schedule; found: what it was made from; notes: lines to print; is_new: something was measured"""

    forecast: Forecast
    found: Measurements
    notes: tuple[str, ...]
    is_new: bool


class Opened(NamedTuple):
    """What schedules of the same folders and settings share. `loader`: its name, which `auto` has chosen."""

    dataset: Manifest
    loader: str
    key: dict[str, Any]
    found: Measurements


class Planner:
    """Plans of many schedules in one process: dataset, key and measurements are read once, so that a schedule of known
    points is arithmetic alone. `warn` takes a line about a cache that cannot be used. The first measurement counts the
    start of this process as that of a run."""

    def __init__(self, warn: Callable[[str], None]):
        self._warn = warn
        self._opened: dict[str, Opened] = {}

    def planned(self, name: str, config: Config, schedule: Schedule, may_measure: bool = True) -> Planned:
        """The plan of a run of one process. `name`: of the schedule, for the reader. Raises: ConfigError, DataError for
        input that cannot run, such as a phase that does not fit into the memory; ConfigError for what the cache lacks
        where nothing may be measured."""
        opened = self._checked(config, schedule)
        work = work_of(replace(config, loader=opened.loader), schedule, opened.dataset)
        if may_measure and missing(work, opened.found):
            refresh(opened.key, opened.found)
            self._count(config, schedule, opened, work)
        lacks = bool(missing(work, opened.found))
        notes: list[str] = []
        if lacks and may_measure:
            from training.plan.measure import measure  # imports torch

            notes = measure(config, schedule, opened.dataset, work, opened.found, self._init(opened))
            write(opened.key, opened.found, self._warn)
        expected = accuracy_of(config, schedule, opened.dataset.name)
        plan = replace(forecast(name, config, work, opened.found), accuracy=expected)
        for row in plan.rows:
            check_plan(row.stretch.phase, row.step, opened.found, config.accumulate)
        return Planned(plan, opened.found, tuple(notes), lacks and may_measure)

    def extrapolated(
        self,
        name: str,
        config: Config,
        schedule: Schedule,
        hardware: Hardware,
        basis: Basis | None,
        may_measure: bool = True,
    ) -> Planned:
        """The plan of a run on `hardware`, which is not here. `schedule`: for its number of processes; `basis`: the
        efficiency; None: of this machine. Raises: as planned."""
        opened = self._checked(config, schedule, hardware.count)
        here = None if basis else self.planned("", config, schedule, may_measure)
        work = work_of(replace(config, loader=opened.loader), schedule, opened.dataset, hardware.count)
        if not all((point.size, point.whitening) in opened.found.saved for point in work.trainings):
            self._add_flops(config, schedule, opened, work)
        plan = extrapolated(name, config, work, opened.found, hardware, basis or seen_here(opened.found, work))
        plan = replace(plan, accuracy=accuracy_of(config, schedule, opened.dataset.name, hardware.count))
        return Planned(plan, opened.found, here.notes if here else (), bool(here and here.is_new))

    def total_seconds(self, config: Config, schedule: Schedule) -> float:
        """T_total of the whole schedule. Raises: as planned."""
        return self.planned("", config, schedule).forecast.clocks["total"]

    def _checked(self, config: Config, schedule: Schedule, world_size: int = 1) -> Opened:
        """After the checks of a run that this schedule may fail. Raises: ConfigError, DataError."""
        opened = self._open(config, schedule)
        check_schedule(config, schedule, opened.dataset, opened.loader, world_size)
        check_start_epoch(config, schedule)
        return opened

    def _open(self, config: Config, schedule: Schedule) -> Opened:
        same = repr((folders_of(config, schedule), config.loader, config.device, settings_of(config)))
        if same not in self._opened:
            loader = loader_name(config, schedule)
            dataset = checked_folders(config, schedule, loader)
            key = key_of(replace(config, loader=loader), schedule, dataset)
            self._opened[same] = Opened(dataset, loader, key, read(key, self._warn))
        return self._opened[same]

    def _init(self, opened: Opened) -> float | None:
        """Seconds of a program's start, where these or other measurements tell them: only the first measurement of a
        process follows its start at once."""
        known = (item.found.start for item in (opened, *self._opened.values()))
        return next((start.init for start in known if start), None)

    def _count(self, config: Config, schedule: Schedule, opened: Opened, work: Work) -> None:
        """FLOPs of sizes that may then be fitted: no model is opened for them. Without a measured step nothing can
        be, and the measurement counts them. Raises: ConfigError for a size that the network cannot take."""
        if opened.found.steps and not all((p.size, p.whitening) in opened.found.saved for p in work.trainings):
            self._add_flops(config, schedule, opened, work)

    def _add_flops(self, config: Config, schedule: Schedule, opened: Opened, work: Work) -> None:
        from training.models.build import check_model  # imports torch
        from training.plan.flops import add_flops

        classes = len(opened.dataset.classes)
        check_model(config, classes, {size for p in schedule.data for size in (p.sz, p.val_sz)}, schedule.data)
        add_flops(config, classes, work, opened.found)
        write(opened.key, opened.found, self._warn)


def known_total(config: Config, schedule: Schedule, warn: Callable[[str], None]) -> str:
    """One line for a dry run: T_total where the cache tells it, else how to get it; the fault of a schedule that does
    not fit into the memory; nothing without the dataset."""
    try:
        plan = Planner(warn).planned("", config, schedule, may_measure=False).forecast
    except DataError:
        return ""
    except NotMeasuredError:
        return "planned: not measured here yet. `python -m training plan` with the same flags measures it"
    except ConfigError as error:
        return f"planned: {error}"
    low, high = plan.intervals["total"]
    return f"planned: T_total {plan.clocks['total']:,.1f} s ({low:,.1f} to {high:,.1f}) on this machine, from the cache"
