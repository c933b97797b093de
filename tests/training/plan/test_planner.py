"""Many schedules in one process: what they share is read once."""

import json
from dataclasses import replace

import pytest

from phases import Schedule
from training.config.config import Config
from training.data.dataset import checked_dataset
from training.errors import ConfigError
from training.plan import store
from training.plan.elsewhere.hardware import hardware_named
from training.plan.flops import add_flops
from training.plan.key import key_of
from training.plan.planner import Planner
from training.plan.store import CheckTime, EntryTime, Measurements, StartTime, StepTime
from training.plan.work import work_of


def phases(*sizes, batch=24):
    data = [{"ep": epoch, "sz": size, "bs": batch} for epoch, size in enumerate(sizes)]
    return json.dumps([*data, {"ep": (0, len(sizes)), "lr": (0.1, 0.0)}])


@pytest.fixture
def known(toy, tmp_path, monkeypatch):
    """A configuration whose cache knows steps at 16 and 32 px; 1 s and 4 s."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = Config(data=str(toy), phases=phases(16, 32), device="cpu", precision="fp32")
    schedule = Schedule.parse(config.phases)
    dataset = checked_dataset(config, schedule)
    work = work_of(config, schedule, dataset)
    times = dict(zip(work.trainings, (1.0, 4.0), strict=True))
    found = Measurements(
        StartTime(0.0, 0.0, 0.0, 0.0, "fp32", "cpu", 10**9),
        {point: StepTime(0.0, seconds, seconds, 0.0, 0.0, 3) for point, seconds in times.items()},
        dict.fromkeys(work.checkings, CheckTime(0.0, 0.0, 3)),
        dict.fromkeys(work.entries, EntryTime(0.0)),
    )
    add_flops(config, len(dataset.classes), work, found)
    store.write(key_of(config, schedule, dataset), found, pytest.fail)
    return config


def total(planner, config, text):
    return planner.planned("", config, Schedule.parse(text), may_measure=False).forecast.clocks["total"]


def test_the_files_are_read_once_for_all_schedules(known, tmp_path):
    planner = Planner(pytest.fail)
    assert total(planner, known, phases(16, 32)) == pytest.approx(10 * (1.0 + 4.0))
    for path in (tmp_path / "dawn-harness" / "plan").iterdir():
        path.unlink()
    assert total(planner, known, phases(32, 16, 16)) == pytest.approx(10 * (4.0 + 1.0 + 1.0))
    with pytest.raises(ConfigError, match="not in the cache: the start of a run"):
        total(Planner(pytest.fail), known, phases(16, 32))


def test_a_schedule_that_does_not_fit_the_dataset_is_refused_by_a_planner_that_has_it_open(known):
    planner = Planner(pytest.fail)
    total(planner, known, phases(16, 32))
    with pytest.raises(ConfigError, match=r"batch 1000 .* exceeds the 240 training images"):
        total(planner, known, phases(16, batch=1000))


def test_a_schedule_of_which_nothing_is_left_is_refused_as_a_run_refuses_it(known):
    """Its plan was of 0 s, and with --hardware or --compare a traceback."""
    planner, late, schedule = Planner(pytest.fail), replace(known, start_epoch=2), Schedule.parse(known.phases)
    with pytest.raises(ConfigError, match="--start-epoch 2: the schedule has 2 epochs"):
        planner.planned("", late, schedule, may_measure=False)
    with pytest.raises(ConfigError, match="--start-epoch 2: the schedule has 2 epochs"):
        planner.extrapolated("", late, schedule, hardware_named("h100x1"), None, may_measure=False)


@pytest.mark.parametrize("change", [pytest.param({"width": 0.5}, marks=pytest.mark.slow), {"holdout": 0.5}])
def test_other_settings_have_measurements_of_their_own(known, change):
    planner = Planner(pytest.fail)
    total(planner, known, phases(16, 32))
    with pytest.raises(ConfigError, match="not in the cache"):
        total(planner, replace(known, **change), phases(16, 32))


def test_a_size_of_which_only_the_flops_are_missing_is_fitted_without_a_measurement(known):
    plan = Planner(pytest.fail).planned("", known, Schedule.parse(phases(24)))
    row = plan.forecast.rows[0]
    assert not plan.is_new and not row.is_measured and 1.0 < row.step.joint < 4.0
