"""A plan where it is not asked for by name: in a dry run, and as a picture."""

from dataclasses import replace

import pytest
from PIL import Image

from phases import Schedule
from training.__main__ import main
from training.config.config import Config
from training.data.dataset import checked_dataset
from training.plan import store
from training.plan.key import key_of
from training.plan.planner import known_total
from training.plan.store import CheckTime, EntryTime, Measurements, StartTime, StepTime
from training.plan.work import work_of

PHASES = "[{'ep':0,'sz':16,'bs':24},{'ep':1,'sz':32,'bs':24},{'ep':(0,2),'lr':0.1}]"


@pytest.fixture
def config(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Config(data=str(toy), phases=PHASES, device="cpu", precision="fp32", width=0.25)


@pytest.fixture
def measured(config):
    """10 steps of 1 s, then 10 of 4 s."""
    schedule = Schedule.parse(PHASES)
    dataset = checked_dataset(config, schedule)
    work = work_of(config, schedule, dataset)
    times = dict(zip(work.trainings, (1.0, 4.0), strict=True))
    found = Measurements(
        StartTime(0.0, 0.0, 0.0, 0.0, "fp32", "cpu", 10**9),
        {point: StepTime(0.1, seconds, seconds, 0.0, 0.0, 3, 0.0, 10**6) for point, seconds in times.items()},
        dict.fromkeys(work.checkings, CheckTime(0.0, 0.0, 3)),
        dict.fromkeys(work.entries, EntryTime(0.0)),
    )
    store.write(key_of(config, schedule, dataset), found, pytest.fail)
    return config


def flags(config):
    return [config.data, "--phases", PHASES, "--device", "cpu", "--precision", "fp32", "--width", "0.25"]


def test_a_dry_run_says_what_the_cache_tells_of_its_cost(measured, capsys):
    assert main([*flags(measured), "--dry-run"]) == 0
    assert "planned: T_total 50.0 s (47.5 to 52.5) on this machine, from the cache" in capsys.readouterr().out


def test_without_measurements_a_dry_run_says_how_to_get_them(config):
    assert known_total(config, Schedule.parse(PHASES), pytest.fail).startswith("planned: not measured here yet")


def test_a_dry_run_says_which_phase_does_not_fit_into_the_memory(measured):
    schedule = Schedule.parse(PHASES)
    key = key_of(measured, schedule, checked_dataset(measured, schedule))
    found = store.read(key, pytest.fail)
    found.steps = {point: replace(step, peak_bytes=10**14) for point, step in found.steps.items()}
    store.file_of(key).unlink()
    store.write(key, found, pytest.fail)
    assert "the phase at epoch 0: bs 24 at 16 px needs about" in known_total(measured, schedule, pytest.fail)


def test_without_the_dataset_a_dry_run_says_nothing_of_its_cost(config):
    missing = replace(config, data=config.data + "-gone")
    assert known_total(missing, Schedule.parse(PHASES), pytest.fail) == ""


def test_the_picture_of_two_schedules(measured, tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert main(["plan", *flags(measured), "--no-measure", "--png", str(one)]) == 0
    assert main(["plan", *flags(measured), "--no-measure", "--png", str(two), "--compare", PHASES]) == 0
    heights = [Image.open(path).size[1] for path in (one, two)]
    assert heights[0] < heights[1]
