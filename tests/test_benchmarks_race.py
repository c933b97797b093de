"""The race: its tables are those of study and compare for every target, and runs that are there are not run again."""

import re

import pytest
from dawn_sets import HIT_SECONDS, LATE_SECONDS, WHOLE_SECONDS, seed_runs
from test_benchmarks_input import benchmark


def race(data, runs, *arguments: str) -> list[list[str]]:
    """The cells of the last printed table, without its header."""
    done = benchmark("race.py", data, *arguments, "--runs", runs)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.rpartition("###")[2].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line][1:]


def test_the_tables_of_runs_that_are_there(tmp_path):
    """Nothing is trained: the dataset does not exist."""
    seed_runs(tmp_path / "cifar10-94", "hhlh", config={"shift": 1})  # seed 3 is not asked for
    seed_runs(tmp_path / "no-shift", "lmlh", config={"shift": 0})
    flags = ("--seeds", "0-2", "--targets", "94", "95", "--change", "no shift: --shift 0")
    first, change = race(tmp_path / "none", tmp_path, "cifar10-94", *flags)
    assert first[0] == "cifar10-94" and first[2:4] == ["", "1"] and first[5] == "never, 0 of 3 hit"
    assert first[4].startswith(f"{(2 * HIT_SECONDS + LATE_SECONDS) / 3:.5g} (") and first[4].endswith(", 3 of 3 hit")
    assert change[0] == "no shift" and change[3] == "1 (1 to 1)"
    assert change[2].startswith(f"{(-0.10 - 0.13 + 0.00) / 3:+.2f} (")
    assert change[4].startswith(f"{(2 * LATE_SECONDS + WHOLE_SECONDS) / 2:.5g} (")
    assert change[4].endswith(", 2 of 3 hit")


def test_a_run_that_diverged_and_a_single_seed_have_no_differences(tmp_path):
    seed_runs(tmp_path / "cifar10-94", "hh")
    seed_runs(tmp_path / "wild", "hd", config={"lr": 9})
    change = ("--change", "wild: --shift 0")
    _, wild = race(tmp_path / "none", tmp_path, "cifar10-94", *change, "--seeds", "0-1")
    assert wild[1:4] == ["a run was not trained to the end", "-", "-"] and wild[4].endswith(", 1 of 2 hit")
    _, wild = race(tmp_path / "none", tmp_path, "cifar10-94", *change, "--seeds", "0")
    assert wild[1:4] == ["94.12", "+0.00", "1"]


BAD = {
    "no target": (["imagenet18-1", "--flags", "--target", ""], "Give --targets"),
    "two targets": (["toy", "cifar10-94"], "cifar10-94: 94 (top1)"),
    "unknown flag": (["toy", "--change", "x: --shifft 0"], "--shifft"),
    "bad value": (["toy", "--change", "x: --flip sideways"], "sideways"),
    "open quote": (["toy", "--change", "x: --phases '"], "No closing quotation"),
    "no name": (["toy", "--change", "--flip none"], "write NAME: FLAGS"),
    "same name": (["toy", "--change", "toy: --flip none"], "the same name"),
    "seeds": (["toy", "--seeds", "3-1"], "--seeds 3-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_comes_before_the_first_run(tmp_path, name):
    arguments, part = BAD[name]
    done = benchmark("race.py", tmp_path, "--runs", tmp_path / "runs", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and part in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_seeds_of_the_toy(toy, tmp_path):
    """The second time it trains only what a new change asks for; other settings under an old name are refused."""
    flags = ("toy", "--seeds", "0-1", "--targets", "50", "90", "--change", "sharp: --label-smoothing 0")
    first = race(toy, tmp_path / "runs", *flags)
    logs = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("run.jsonl")}
    again = race(toy, tmp_path / "runs", *flags, "--change", "straight: --flip none")
    assert len(logs) == 4 and all(path.read_bytes() == data for path, data in logs.items())
    assert again[:2] == first and len(again) == 3
    assert all(re.fullmatch(r"\d.*, 2 of 2 hit", row[4]) for row in again)
    done = benchmark("race.py", toy, *flags[:-1], "sharp: --flip none", "--runs", tmp_path / "runs")
    assert done.returncode == 2 and "run with other settings" in done.stderr
