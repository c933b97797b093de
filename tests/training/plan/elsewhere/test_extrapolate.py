"""A plan for hardware that is not here."""

import math
from dataclasses import replace

import pytest
from dawn_script import START, scripted_run

from dawn import read_run
from phases import Schedule
from training.__main__ import main
from training.config.config import Config
from training.config.saved import save_config
from training.data.dataset import checked_dataset
from training.errors import ConfigError
from training.plan.elsewhere.extrapolate import FROM_RUN, Basis, extrapolated
from training.plan.elsewhere.hardware import TABLE, chip_of, hardware_named
from training.plan.elsewhere.scale import arithmetic_of, seen_in
from training.plan.flops import counted
from training.plan.planner import Planner
from training.plan.store import Measurements
from training.plan.work import work_of

PHASES = "[{'ep':0,'sz':32,'bs':24},{'ep':(0,2),'lr':0.1}]"


@pytest.fixture
def config(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Config(data=str(toy), phases=PHASES, device="cpu", width=0.25)


def planned(config, name, flops=10**12, saved=1, efficiency=0.5):
    schedule, hardware = Schedule.parse(PHASES), hardware_named(name)
    work = work_of(config, schedule, checked_dataset(config, schedule), hardware.count)
    keys = {(point.size, point.whitening) for point in work.trainings}
    found = Measurements(flops=dict.fromkeys(keys, flops), saved=dict.fromkeys(keys, saved))
    return extrapolated("x", config, work, found, hardware, Basis("", 4.0, 1.0, 2.0, 3.0, 0.0, 0.0, efficiency))


def test_every_entry_says_where_its_numbers_come_from():
    assert len({item.name for item in TABLE}) == len(TABLE)
    for item in TABLE:
        assert item.chip.source and item.name.endswith(f"x{item.count}")
        assert item.price is None or (item.price.source and item.price.date)
        assert chip_of(f"NVIDIA {item.chip.in_logs}") == item.chip


def test_the_time_of_a_step_is_its_arithmetic_over_the_reached_part_of_the_peak(config):
    (row,) = {row.step.model for row in planned(config, "h100x1").rows}
    assert row == pytest.approx(24e12 / (0.5 * 989.5e12))


def test_a_step_is_no_faster_than_its_memory(config):
    (row,) = {row.step.model for row in planned(config, "h100x1", flops=1, saved=10**9).rows}
    assert row == pytest.approx(3 * 24 * 0.5e9 / 3350e9)


def test_eight_gpus_take_an_eighth_of_the_steps(config):
    one, eight = (sum(row.stretch.steps for row in planned(config, f"h100x{n}").rows) for n in (1, 8))
    assert (one, eight) == (20, 2)


def test_the_interval_is_a_factor(config):
    plan = planned(config, "v100x1")
    low, high = plan.intervals["total"]
    assert plan.precision == "fp16" and plan.is_extrapolated
    assert math.sqrt(low * high) == pytest.approx(plan.clocks["total"]) and high / low == pytest.approx(16)


def test_a_batch_that_cannot_fit_into_the_gpu(config):
    with pytest.raises(ConfigError, match=r"bs 24 at 32 px needs about .* Use 'bs': 15 "):
        planned(config, "a100x1", saved=10**10)


def test_a_precision_that_the_hardware_lacks():
    with pytest.raises(ConfigError, match="--precision bf16: NVIDIA V100 SXM2 16 GB has fp32, fp16"):
        hardware_named("v100x8").precision_of("bf16")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hardware", "abacus"], "--hardware abacus: not in the table, which has h200x8, "),
        (["--scale-from", "runs/x"], "--scale-from: needs --hardware"),
        (["--hardware", "h100x1", "--scale-from", "no/run"], "no/run"),
    ],
)
def test_bad_input_is_one_line(config, capsys, flags, said):
    assert main(["plan", config.data, "--phases", PHASES, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_measurements_here_and_without_a_run_nothing_is_known(config):
    with pytest.raises(ConfigError, match="not in the cache"):
        Planner(pytest.fail).extrapolated("", config, Schedule.parse(PHASES), hardware_named("h100x1"), None, False)


def run_on(config, folder, name, **more):
    """A scripted run of `config` in bf16 on a GPU of that name."""
    scripted_run(folder, precision="bf16", hardware=START["hardware"] | {"device": "cuda", "name": name}, **more)
    save_config(folder, config)
    return str(folder)


def test_the_efficiency_of_a_run_is_its_arithmetic_over_its_peak_and_its_time(config, tmp_path, capsys):
    run = run_on(config, tmp_path / "run", "NVIDIA L4")
    basis, rows = seen_in(run), read_run(run).rows
    flops = sum(row.images * counted(config, 10, row.size, False)[0] for row in rows)
    seconds = sum(row.seconds["train"] for row in rows)
    assert basis.efficiency == pytest.approx(flops / seconds / 121e12) and basis.factor == FROM_RUN
    assert (basis.init, basis.prepare, basis.warm) == (4.0, 0.5, 1.25)
    more = ["--hardware", "h100x1", "--scale-from", run, "--no-measure", "--width", "0.25"]
    assert main(["plan", config.data, "--phases", PHASES, *more]) == 0
    assert "of the peak of NVIDIA L4" in capsys.readouterr().out


def test_an_epoch_within_which_the_size_changes_counts_with_both_sizes(config, tmp_path):
    """All its images were counted at the larger one."""
    run = read_run(run_on(config, tmp_path / "run", "NVIDIA L4", correct=((5000, 9000),)))
    part = {"start": 0, "size": 24, "batch_size": 1000, "global_batch_size": 1000, "steps": 20}
    (row,) = run.rows
    both = replace(run, rows=(replace(row, size=32, parts=(part, part | {"start": 0.4, "size": 32, "steps": 30})),))
    small, large = (counted(config, 10, size, False)[0] for size in (24, 32))
    assert arithmetic_of(both, config) == 20_000 * small + 30_000 * large


def test_a_run_that_ended_in_its_first_epoch_tells_no_efficiency(config, tmp_path):
    """It was a division by zero."""
    run = run_on(config, tmp_path / "run", "NVIDIA L4", correct=())
    with pytest.raises(ConfigError, match="no epoch of this run has ended"):
        seen_in(run)


def test_a_run_on_hardware_of_unknown_peak_tells_no_efficiency(config, tmp_path):
    run = run_on(config, tmp_path / "run", "Abacus 3000")
    with pytest.raises(ConfigError, match="ran in bf16 on Abacus 3000, whose peak is not in the table"):
        seen_in(run)
