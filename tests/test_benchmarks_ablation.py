"""The ablation: its table is that of study and compare, for every target, and runs that are there are not run again."""

import re

import pytest
from dawn_sets import HIT_SECONDS, LATE_SECONDS, WHOLE_SECONDS, seed_runs
from test_benchmarks_input import benchmark


def ablation(data, runs, *arguments: str) -> list[list[str]]:
    """The cells of the printed table, without its header."""
    done = benchmark("ablation.py", data, *arguments, "--runs", runs)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line][1:]


def test_the_table_of_runs_that_are_there(tmp_path):
    """Nothing is trained: the dataset does not exist."""
    seed_runs(tmp_path / "base", "hhl", config={"shift": 1})
    seed_runs(tmp_path / "shift-0", "lml", config={"shift": 0})
    flags = ("--seeds", "0-2", "--targets", "94", "95", "--change=--shift 0")
    base, change = ablation(tmp_path / "none", tmp_path, "cifar10-demo", *flags)
    mean = (2 * HIT_SECONDS + LATE_SECONDS) / 3
    assert base[:3] == ["as it is", "", "1"] and base[4] == "never, 0 of 3"
    assert base[3].startswith(f"{mean:.5g} (") and base[3].endswith("), 3 of 3")
    assert change[0] == r"--shift 0" and change[2] == "1 (1 to 1)"
    assert change[1].startswith(f"{(-0.10 - 0.13 + 0.00) / 3:+.2f} (")
    assert change[3].startswith(f"{(2 * LATE_SECONDS + WHOLE_SECONDS) / 2:.5g} (") and change[3].endswith("2 of 3")


def test_bad_input_comes_before_the_first_run(tmp_path):
    for change in ("--shifft 0", "--flip sideways", "--phases '"):
        done = benchmark(
            "ablation.py", tmp_path, "toy", "--targets", "90", "--runs", tmp_path / "runs", f"--change={change}"
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_seeds_of_the_toy(toy, tmp_path):
    """The second time it trains only what a new change asks for."""
    flags = ("toy", "--seeds", "0-1", "--targets", "50", "90", "--change=--label-smoothing 0")
    first = ablation(toy, tmp_path / "runs", *flags)
    logs = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("run.jsonl")}
    again = ablation(toy, tmp_path / "runs", *flags, "--change=--flip none")
    assert len(logs) == 4 and all(path.read_bytes() == data for path, data in logs.items())
    assert again[:2] == first and len(again) == 3
    assert all(re.fullmatch(r"\d.*, 2 of 2", row[3]) for row in again)
