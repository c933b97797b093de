"""A plan: what a schedule will cost, from a few measured steps that are kept."""

import json
import time
from dataclasses import replace

import pytest
import torch

from dawn.runlog.clock import RUN_LABELS, process_start_ns
from phases import Schedule
from phases.parts import epoch_parts
from training.__main__ import main
from training.config.config import Config
from training.config.saved import save_config
from training.data.dataset import checked_dataset
from training.distributed.env import Env
from training.plan import measure, store
from training.plan.fit import check_time, in_proportion, interpolated, step_time
from training.plan.forecast import forecast
from training.plan.key import key_of
from training.plan.measure import Small, thinned
from training.plan.peaks import reset_peak
from training.plan.report import as_json
from training.plan.store import CheckTime, EntryTime, Measurements, StartTime, StepTime
from training.plan.work import Checking, Training, work_of

PHASES = [
    {"ep": 0, "sz": 16, "bs": 24},
    {"ep": 1.5, "sz": 24, "bs": 12},
    {"ep": (0, 1), "lr": (0.1, 0.2)},
    {"ep": (1, 2.75), "lr": (0.2, 0.0)},
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dawn-harness" / "plan"


@pytest.fixture
def config(toy):
    return Config(data=str(toy), phases=json.dumps(PHASES), device="cpu", precision="fp32", eval_every=2)


def work(config):
    schedule = Schedule.parse(config.phases)
    return schedule, work_of(config, schedule, checked_dataset(config, schedule))


def test_the_work_is_what_the_trainer_does(config):
    schedule, found = work(config)
    parts = [part for epoch in range(3) for part in epoch_parts(schedule, epoch, 240, 1)]
    assert sum(item.steps for item in found.stretches) == sum(part.steps for part in parts)
    assert [(item.training.size, item.training.batch) for item in found.stretches] == [(16, 24), (24, 12)]
    assert [item.epochs for item in found.stretches] == [1.5, 1.25]
    assert [item.checks for item in found.stretches] == [1, 1]  # after epochs 0 and 2
    assert [item.enters.first for item in found.stretches] == [True, False]


def test_with_a_holdout_fewer_images_are_trained(config):
    _, whole = work(config)
    _, part = work(replace(config, holdout=0.5))
    assert sum(i.steps for i in part.stretches) < 0.6 * sum(i.steps for i in whole.stretches)
    assert part.validation_images == 120


def known(found):
    """Measurements in round numbers: a step at 16 px takes 1 s, at 24 px 2 s."""
    steps = {
        point: StepTime(0.1, seconds, seconds, 0.25, 0.0, 3)
        for point, seconds in zip(found.trainings, (1.0, 2.0), strict=True)
    }
    checks = {point: CheckTime(1e-3, 0.0, 3) for point in found.checkings}
    entries = dict.fromkeys(found.entries, EntryTime(0.5))
    flops = {(point.size, point.whitening): per_image for point, per_image in zip(steps, (100, 225), strict=True)}
    return Measurements(StartTime(3.0, 2.0, 1.0, 0.125, "fp32", "cpu", 10**9), steps, checks, entries, flops)


def test_the_ledger_is_the_sum_of_its_parts_and_every_clock_follows(config):
    _, found = work(config)
    plan = forecast("x", config, found, known(found))
    short, long = (item.steps for item in found.stretches)
    ledger = {label: time.value for label, time in plan.ledger.items()}
    assert ledger["data"] == pytest.approx(0.25 * (short + long))
    assert ledger["train"] == pytest.approx(0.75 * short + 1.75 * long)
    assert ledger["eval"] == pytest.approx(60 * 1e-3 * (16**2 + 24**2))
    assert (ledger["switch"], ledger["checkpoint"]) == (1.0, pytest.approx(3 * 0.125))
    assert plan.clocks["total"] == pytest.approx(sum(ledger[label] for label in RUN_LABELS))
    assert plan.clocks["cold"] == pytest.approx(plan.clocks["total"] + 7.0)  # 1 s of warm-up for each of two shapes
    low, high = plan.intervals["total"]
    assert low < plan.clocks["total"] < high


def test_the_peak_of_a_run_is_that_of_what_it_does(config):
    """It was the largest step's, where a validation took twice as much; then a schedule that had been measured first
    gave its own to all others."""
    short = replace(config, phases=json.dumps([PHASES[0], PHASES[2]]))
    (_, whole), (_, part) = work(config), work(short)
    found = known(whole)
    assert forecast("x", config, whole, found).peak_bytes is None
    found.steps = {point: replace(step, peak_bytes=10) for point, step in found.steps.items()}
    assert forecast("x", config, whole, found).peak_bytes == 10
    found.checks[whole.checkings[1]] = CheckTime(1e-3, 0.0, 3, peak_bytes=20)
    found.entries[part.entries[0]] = EntryTime(0.5, peak_bytes=15)
    peaks = [forecast("x", config, found_work, found).peak_bytes for found_work in (whole, part)]
    assert peaks == [20, 15]
    found.start = replace(found.start, checkpoint_bytes=3)
    assert as_json(forecast("x", config, whole, found))["peak_memory_bytes"] == 23


def test_the_peak_of_a_validation_that_was_not_measured_is_at_least_that_of_smaller_ones():
    found = Measurements()
    found.checks = {Checking(size, 8, "", False, "none", 1.0): CheckTime(1.0, 0.0, 3, size) for size in (16, 24, 32)}
    peaks = [check_time(found, Checking(size, 8, "", False, "none", 1.0))[0].peak_bytes for size in (8, 24, 28, 64)]
    assert peaks == [0, 24, 24, 32]


def test_between_two_measured_points_a_line_and_beyond_them_a_proportion():
    points = {1.0: 2.0, 3.0: 6.0, 4.0: 7.0}
    assert [in_proportion(points, x) for x in (0.5, 1.0, 2.0, 3.5, 4.0, 8.0)] == [1.0, 2.0, 4.0, 6.5, 7.0, 14.0]
    assert in_proportion({2.0: 5.0}, 4.0) == 10.0
    assert interpolated(points, 5.0) == 8.0 and interpolated({1.0: 1.0, 2.0: 9.0}, 0.5) == 0.0


@pytest.mark.parametrize("seconds", [0.50, 0.53, 0.40])
def test_two_measured_steps_of_nearly_the_same_work_do_not_decide_the_time_of_another(seconds):
    """cifar10-94 measures 24 px with whitening and without. The line through both made 0.14 s and 0.0 s of 20 px."""
    white, plain, wanted = Training(24, 512, "", True), Training(24, 512, ""), Training(20, 512, "")
    found = Measurements(flops={(24, True): 104, (24, False): 100, (20, False): 70})
    found.steps = {point: StepTime(0.1, time, time, 0.0, 0.0, 3) for point, time in ((white, seconds), (plain, 0.46))}
    assert step_time(found, wanted)[0].joint == pytest.approx(0.70 * 0.46)
    del found.steps[plain]
    assert step_time(found, wanted)[0].joint == pytest.approx(70 / 104 * seconds)


@pytest.mark.parametrize("seconds", [1.0, 9.0])
def test_slow_steps_are_left_out_only_where_a_fit_gives_them(seconds):
    """imagenette-20 has 64 and 96 px in one folder and 128 px in another, which no fit reaches: its plan failed."""
    smaller = [Training(size, 64, "-sz/160") for size in (64, 80, 96)]
    found, points = Measurements(), [*smaller, Training(128, 64, "")]
    found.flops = {(point.size, False): point.size**2 for point in points}
    chosen, notes = thinned(dict.fromkeys(points, Small(seconds, 0.0)), found)
    assert len(chosen) == (4 if seconds == 1 else 3) and len(notes) == (seconds == 9)
    found.steps = {point: StepTime(0.1, seconds, seconds, 0.0, 0.0, 3) for point in chosen}
    assert all(step_time(found, point)[0] for point in points)


def test_a_size_between_measured_ones_is_fitted_by_its_arithmetic(config):
    _, found = work(config)
    measured = known(found)
    between = replace(config, phases=json.dumps([PHASES[0] | {"sz": 20}, *PHASES[2:]]))
    _, wanted = work(between)
    measured.flops |= {(point.size, point.whitening): 150 for point in wanted.trainings}
    measured.entries = dict.fromkeys(wanted.entries, EntryTime(0.5))
    measured.checks = {point: CheckTime(1e-3, 0.0, 3) for point in wanted.checkings}
    row = forecast("x", between, wanted, measured).rows[0]
    assert not row.is_measured and row.step.peak_bytes is None
    # 24 images of 150 FLOPs lie beyond both measured steps (2400 and 2700)
    assert row.step.model == pytest.approx(2.0 * 3600 / 2700)


def planned(toy, *more):
    phases = "[{'ep':0,'sz':12,'bs':16},{'ep':(0,1),'lr':0.1}]"
    return main(
        ["plan", str(toy), "--device", "cpu", "--precision", "fp32", "--width", "0.25", "--phases", phases, *more]
    )


def test_a_plan_is_measured_once_and_then_read(toy, cache, tmp_path, capsys, monkeypatch):
    for name, less in {"BUDGET": 0.1, "LOADER_SECONDS": 0.01, "LEAST": 1}.items():  # this is no timing
        monkeypatch.setattr(measure, name, less)
    assert planned(toy, "--no-measure") == 2
    assert capsys.readouterr().err.startswith("error: not in the cache: the start of a run; a training step at 12 px")
    seconds = (time.monotonic_ns() - (process_start_ns() or time.monotonic_ns())) / 1e9
    assert planned(toy, "--hardware", "h100x1") == 0  # it measures, once without the start of the program
    assert planned(toy, "--json", str(tmp_path / "a.json"), "--cost-per-hour", "36") == 0
    assert planned(toy, "--no-measure", "--json", str(tmp_path / "b.json")) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert next(iter(first)) == "T_total" and first["T_total"] == second["T_total"] > 0
    assert first["ledger"]["init"] > seconds
    (kept,) = (json.loads(path.read_text()) for path in cache.glob("*.json"))
    peaks = [value["peak_bytes"] for *_, value in kept["checks"] + kept["entries"]]
    assert len(peaks) == 2 and all(peaks) == reset_peak(Env(torch.device("cpu")), trim=False)
    assert first["dollars"] == pytest.approx(first["T_total"] / 100)
    assert first["phases"][0]["steps"] == 15 and first["phases"][0]["validations"] == 1
    out = capsys.readouterr().out
    assert "T_total" in out and "from the cache" in out


def test_a_damaged_cache_is_named_and_passed_over(cache):
    key, said = {"a": 1}, []
    found = Measurements(flops={(12, False): 7})
    store.write(key, found, said.append)
    assert store.read(key, said.append).flops == found.flops and not said
    for text in ("", "{", "[]", '{"version": 1}', '{"version": 1, "key": {"a": 2}}'):
        store.file_of(key).write_text(text)
        assert store.read(key, said.append) == Measurements()
        assert str(store.file_of(key)) in said[-1] and "\n" not in said[-1]
    assert len(said) == 5


@pytest.mark.parametrize("words", ["--resume {}", "--evaluate"])
def test_a_part_of_a_run_is_not_planned(toy, tmp_path, capsys, words):
    """Both were passed over in silence."""
    save_config(tmp_path, Config(data=str(toy), recipe="toy", phases="toy"))
    assert planned(toy, *words.format(tmp_path).split()) == 2
    said = capsys.readouterr().err
    assert "Leave out --resume and --evaluate" in said and said.count("\n") == 1


@pytest.mark.parametrize("price", ["-1", "nan", "inf"])
def test_a_price_that_is_none(toy, cache, capsys, price):
    assert planned(toy, f"--cost-per-hour={price}") == 2
    assert "must be US dollars per hour" in capsys.readouterr().err


def test_times_of_ones_own_network_are_those_of_its_present_code(config, tmp_path):
    """An edit of the file kept the times that were measured before."""
    path = tmp_path / "mine.py"
    own, keys = replace(config, model=f"{path}:network"), []
    for text in ("def network(classes): ...\n", "def network(classes): ...  # wider\n"):
        path.write_text(text)
        keys.append(key_of(own, Schedule.parse(own.phases), checked_dataset(config, Schedule.parse(config.phases))))
    assert keys[0]["own_code"].keys() == {"model"} and keys[0] != keys[1]
