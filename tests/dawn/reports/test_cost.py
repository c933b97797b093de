"""Cost: hours times price, exactly; no price and no energy that nobody gave."""

import json
from pathlib import Path

import pytest
from dawn_script import Script, resumed_run, scripted_run

from dawn import RunError, read_run
from dawn.__main__ import main
from dawn.reports.cost import TABLE, Price, cost_tables, dollars, energy_joules, listed_price, load_table, own_price


def shown(capsys, *argv: object) -> str:
    assert main(["cost", *map(str, argv)]) == 0
    return capsys.readouterr().out


def refused(capsys, *argv: object) -> str:
    assert main(["cost", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_dollars_are_hours_times_price(tmp_path, capsys):
    run = read_run(scripted_run(tmp_path))
    price = Price(3600.0, "test")
    seconds = 0.125 + 2 * 0.5 + 4 * 50 * 0.201  # T_dawn of the fourth epoch, which hits
    assert dollars(run, run.hit(), price) == pytest.approx(seconds)
    assert dollars(run, run.hit(), price, "cold") == pytest.approx(seconds + 4 * 1.5 + 3 * 0.25 + 5.75)
    assert f"{seconds:.4f}" in shown(capsys, tmp_path, "--cost-per-hour", "3600", "--source", "a list of 2026-11-22")


def test_published_costs_of_dawnbench_come_out():
    """Hours of the leaderboard times the table's price: 118.07 and 61.63 dollars (fast.ai), 7.43 (Alibaba), ..."""
    for instance, machines, hours, published in (
        ("p3.16xlarge", 16, 0.30144, 118.07),
        ("p3.16xlarge", 8, 0.31472, 61.63),
        ("p3.16xlarge", 4, 0.49509, 48.48),
        ("ecs.gn6e-c12g1.24xlarge", 1, 0.36046, 7.43),
        ("n1-standard-2+cloud-tpu", 1, 2.742, 12.60),
        ("lambda-4x1080ti", 1, 12.663, 19.00),
        ("p3.2xlarge", 1, 74.0 / 3600, 0.0629),
    ):
        assert listed_price(instance, machines).dollars * hours == pytest.approx(published, abs=0.015)


def test_every_price_has_a_day_and_a_source():
    for row in load_table(TABLE):
        assert row["source"] and row["date"] < "2026-11-24" and row["dollars_per_hour"] > 0
        assert (
            row["date"] in listed_price(row["instance"]).source
            and row["source"] in listed_price(row["instance"]).source
        )


def test_without_a_price_hours_only(tmp_path, capsys):
    out = shown(capsys, scripted_run(tmp_path))
    assert "unknown: give --cost-per-hour or --instance" in out and "0.011479" in out and "not in the log" in out


def test_target_that_was_not_reached_is_said(tmp_path, capsys):
    scripted_run(tmp_path, ((8600, 9000),), target=85.0)
    out = shown(capsys, tmp_path, "--instance", "p3.2xlarge")
    assert "to 85 % top-1, epoch 1" in out and "to 94 % top-1: not reached" in out


def test_resumed_run_says_that_the_gap_is_not_counted(tmp_path, capsys):
    assert "31.5 s between the attempts is on no clock" in shown(capsys, resumed_run(tmp_path))


def with_energy(folder: Path, joules, make=scripted_run) -> Path:
    """A log of an older kind (no chain) with energy in its epoch lines."""
    lines = [json.loads(line) for line in (make(folder) / "run.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    for line in lines:
        line.pop("chain")
    for line, value in zip(epochs, joules, strict=True):
        line["energy_joules"] = value
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_energy_adds_up_to_the_target(tmp_path, capsys):
    run = read_run(with_energy(tmp_path, [900_000, 900_000, 900_000, 900_000.0, 5.0]))
    assert energy_joules(run, run.rows[:4]) == 3_600_000
    watts = 3_600_000 / run.hit().clock["total"]
    assert f"1.000000 kWh  -        of the devices, {watts:.0f} W on average" in shown(capsys, tmp_path)


def test_energy_with_a_hole_is_not_added_up(tmp_path, capsys):
    run = read_run(with_energy(tmp_path, [1.0, None, 3.0, 4.0, 5.0]))
    assert energy_joules(run, run.rows) is None and energy_joules(run, run.rows[:1]) == 1.0
    out = shown(capsys, tmp_path)
    assert "in some epochs" in out and "kWh" not in out


def test_energy_of_an_epoch_resumed_in_its_middle_is_not_whole(tmp_path, capsys):
    run = read_run(with_energy(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], resumed_run))
    assert energy_joules(run, run.rows[:2]) == 3.0 and energy_joules(run, run.rows[:3]) is None
    assert "measured in part in some epochs" in shown(capsys, tmp_path)


@pytest.mark.parametrize("joules", [-1, "1", True])
def test_energy_must_be_a_number(tmp_path, joules):
    with pytest.raises(RunError, match="'energy_joules' is"):
        read_run(with_energy(tmp_path, [joules, 1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cost-per-hour", "-1"], "cost per hour is -1"),
        (["--cost-per-hour", "nan"], "cost per hour is nan"),
        (["--cost-per-hour", "1", "--instance", "p3.2xlarge"], "two prices"),
        (["--instance", "p9"], "unknown instance 'p9'. Known: p3.2xlarge"),
        (["--instance", "p3.2xlarge", "--machines", "0"], "--machines is 0"),
        (["--machines", "2"], "--machines: goes with --instance"),
        (["--source", "x"], "--source: goes with --cost-per-hour"),
        (["--prices", "x"], "--prices: goes with --instance"),
        (["--instance", "p3.2xlarge", "--prices", "/nowhere"], "No such file"),
    ],
)
def test_bad_flags_are_one_line(tmp_path, capsys, flags, message):
    assert message in refused(capsys, scripted_run(tmp_path), *flags)


ROW = {"instance": "mine", "provider": "b", "hardware": "c", "source": "bill", "date": "2026-01-02"}
ROW |= {"dollars_per_hour": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not JSON"),
        ("{}", "no list of objects"),
        ('[{"instance": "a"}]', "price 1: 'provider' is missing"),
        (json.dumps([ROW, ROW | {"dollars_per_hour": -1}]), "price 2: 'dollars_per_hour' is -1"),
        (json.dumps([ROW | {"date": "today"}]), "'date' is 'today'"),
    ],
)
def test_bad_price_tables_are_one_line(tmp_path, capsys, text, message):
    (tmp_path / "prices.json").write_text(text)
    run = scripted_run(tmp_path / "run")
    assert message in refused(capsys, run, "--instance", "mine", "--prices", tmp_path / "prices.json")


def test_own_price_table(tmp_path, capsys):
    (tmp_path / "prices.json").write_text(json.dumps([ROW]))
    out = shown(capsys, scripted_run(tmp_path / "run"), "--instance", "mine", "--prices", tmp_path / "prices.json")
    assert "2 dollars per hour, mine (b, c), 2026-01-02: bill" in out


def test_tables_of_a_task_with_one_target(tmp_path):
    """DAWNBench's target is the run's own: one table for it."""
    titles = [table.title for table in cost_tables(read_run(scripted_run(tmp_path)), own_price(1, None))]
    assert titles == ["to 94 % top-1, epoch 4", "to the last evaluation", "notes"]


def test_no_evaluation_is_one_line(tmp_path, capsys):
    Script(tmp_path).epoch(0, None)
    assert "no evaluation yet" in refused(capsys, tmp_path)
