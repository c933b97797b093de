"""The race: its tables are those of study and compare for every target, and runs that are there are not run again."""

import re
import runpy
import shlex
import sys

import pytest
from benchmark_scripts import BENCHMARKS, run_script
from dawn_sets import HIT_SECONDS, LATE_SECONDS, WHOLE_SECONDS, seed_runs

from training.config.parser import config_from
from training.config.schedule import resolved_schedule


@pytest.fixture
def run(monkeypatch, capfd):
    """(exit code, output, errors) of a command line."""
    return lambda *arguments: run_script(monkeypatch, capfd, "race.py", *arguments)


@pytest.fixture
def race(run):
    """Function of DATA, RUNS and arguments: the cells of the last printed table, without its header."""

    def cells(data, runs, *arguments: str) -> list[list[str]]:
        code, out, err = run(data, *arguments, "--runs", runs)
        assert code == 0, err
        lines = [line for line in out.rpartition("###")[2].splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line][1:]

    return cells


def test_the_tables_of_runs_that_are_there(race, toy, tmp_path):
    """Nothing is trained. Seed 3 is not asked for."""
    seed_runs(tmp_path / "toy", "hhlh", config={"shift": 1})
    seed_runs(tmp_path / "no-shift", "lmlh", config={"shift": 0})
    flags = ("--seeds", "0-2", "--targets", "94", "95", "--change", "no shift: --shift 0")
    first, change = race(toy, tmp_path, "toy", *flags)
    assert first[0] == "toy" and first[2:4] == ["", "1"] and first[5] == "never, 0 of 3 hit"
    assert first[4].startswith(f"{(2 * HIT_SECONDS + LATE_SECONDS) / 3:.5g} (") and first[4].endswith(", 3 of 3 hit")
    assert change[0] == "no shift" and change[3] == "1 (1 to 1)"
    assert change[2].startswith(f"{(-0.10 - 0.13 + 0.00) / 3:+.2f} (")
    assert change[4].startswith(f"{(2 * LATE_SECONDS + WHOLE_SECONDS) / 2:.5g} (")
    assert change[4].endswith(", 2 of 3 hit")


def test_a_run_that_diverged_and_a_single_seed_have_no_differences(race, toy, tmp_path):
    seed_runs(tmp_path / "toy", "hh")
    seed_runs(tmp_path / "wild", "hd", config={"lr": 9})
    change = ("--change", "wild: --shift 0", "--targets", "94")
    _, wild = race(toy, tmp_path, "toy", *change, "--seeds", "0-1")
    assert wild[1:4] == ["a run was not trained to the end", "-", "-"] and wild[4].endswith(", 1 of 2 hit")
    _, wild = race(toy, tmp_path, "toy", *change, "--seeds", "0")
    assert wild[1:4] == ["94.12", "+0.00", "1"]


BAD = {
    "no target": (["imagenet18-1", "--flags", "--target", ""], "Give --targets"),
    "two targets": (["toy", "cifar10-94"], "cifar10-94: 94 (top1)"),
    "unknown flag": (["toy", "--change", "x: --shifft 0"], "--shifft"),
    "bad value": (["toy", "--change", "x: --flip sideways"], "sideways"),
    "open quote": (["toy", "--change", "x: --phases '"], "No closing quotation"),
    "a seed": (["toy", "--change", "x: --seed=7"], "--seed=7 is the race's own"),
    "a target": (["toy", "--change", "x: --target 50"], "--target is the race's own"),
    "no such part": (["toy", "--change", "x: --drop-path 0.1"], "cifarnet has none"),
    "no such data": (["toy", "--change", "x: --phases cifar10-94"], "exceeds the 240"),
    "no name": (["toy", "--change", "--flip none"], "write NAME: FLAGS"),
    "same name": (["toy", "--change", "toy: --flip none"], "the same name"),
    "seeds": (["toy", "--seeds", "3-1"], "--seeds 3-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_comes_before_the_first_run(run, toy, tmp_path, name):
    arguments, part = BAD[name]
    code, out, err = run(toy, "--runs", tmp_path / "runs", *arguments)
    assert code == 2 and not out and err.count("\n") == 1 and part in err, err
    assert not (tmp_path / "runs").exists()


def test_the_commands_of_the_docs_are_accepted(monkeypatch):
    """The one of the ablation was refused for the hyphen in a name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = runpy.run_path(str(BENCHMARKS / "race.py"))
    text = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith("python benchmarks/race.py")]
    assert len(commands) >= 3
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
        options = script["parsed"]()
        entrants = script["entrants_of"](options)
        assert len(entrants) == len(options.recipes) + len(options.change)
        for flags in entrants.values():
            resolved_schedule(config_from(flags), 1, pytest.fail)


@pytest.mark.slow
def test_two_seeds_of_the_toy(run, race, toy, tmp_path):
    """The second time it trains only what a new change asks for; other settings under an old name are refused."""
    flags = ("toy", "--seeds", "0-1", "--targets", "50", "90", "--change", "sharp: --label-smoothing 0")
    first = race(toy, tmp_path / "runs", *flags)
    logs = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("run.jsonl")}
    again = race(toy, tmp_path / "runs", *flags, "--change", "straight: --flip none")
    assert len(logs) == 4 and all(path.read_bytes() == data for path, data in logs.items())
    assert again[:2] == first and len(again) == 3
    assert all(re.fullmatch(r"\d.*, 2 of 2 hit", row[4]) for row in again)
    code, _, err = run(toy, *flags[:-1], "sharp: --flip none", "--runs", tmp_path / "runs")
    assert code == 2 and "run with other settings" in err
