"""The benchmarks keep starting, and bad input of theirs is one line and exit code 2 as in the commands."""

import subprocess
import sys

import pytest
from benchmark_scripts import BENCHMARKS, run_script


def benchmark(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARKS / name, *map(str, arguments)]
    return subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "arguments",
    [
        ["race.py", "{none}", "toy", "--runs", "{runs}"],
        ["race.py", "{none}", "toi", "--runs", "{runs}"],
        ["overhead.py", "{none}"],
        ["loaders.py", "{none}"],
        ["gpu.py", "{none}", "--device", "cpu"],
        ["resize.py", "{none}", "--images", "4"],
        ["engines.py", "{none}", "--images", "4"],
        ["frontier.py", "one size={none}", "--out", "{runs}"],
        ["plan.py", "{none}", "{none}", "--runs", "{runs}"],
        ["race_airbench.py", "{none}", "cifar10-94", "--airbench", "{none}", "--runs", "{runs}"],
    ],
    ids=lambda arguments: " ".join(arguments[:3:2]),
)
def test_a_missing_dataset_is_no_traceback(tmp_path, monkeypatch, capfd, arguments):
    given = (text.format(none=tmp_path / "none", runs=tmp_path / "runs") for text in arguments)
    code, _, err = run_script(monkeypatch, capfd, *given)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("more", [["--steps", "0"], ["--steps", "3"], ["--pairs", "0"], ["emma"]], ids=" ".join)
def test_what_recipes_cannot_measure(monkeypatch, capfd, more):
    code, _, err = run_script(monkeypatch, capfd, "recipes.py", *more)
    assert code == 2 and err.startswith(f"error: {' '.join(more)}: "), err


@pytest.mark.parametrize("more", ["--least 0", "--least nan", "--lines 13", "--runs ."])
def test_a_plan_that_cannot_be_measured(monkeypatch, capfd, more):
    code, _, err = run_script(monkeypatch, capfd, "plan.py", "none", "none", *more.split())
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("recipe", "more", "found"),
    [
        ("cifar10-95", [], "--recipe cifar10-95: unknown recipe"),
        ("cifar10-94", ["--rounds", "0"], "--rounds, --steps: at least 1"),
        ("cifar10-94", [], "airbench94_muon.py: is no training script of airbench"),
    ],
)
def test_a_race_against_airbench_that_cannot_begin(tmp_path, monkeypatch, capfd, recipe, more, found):
    given = "none", recipe, "--airbench", tmp_path, *more
    code, _, err = run_script(monkeypatch, capfd, "race_airbench.py", *given)
    assert code == 2 and found in err and err.startswith("error: ") and err.count("\n") == 1, err


@pytest.mark.slow
def test_recipes_measures_parts():
    parts = ["ema", "erasing", "accumulate"]
    done = benchmark("recipes.py", *parts, "--pairs", "1", "--batch", "4", "--size", "64", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if "ratio" in line] == parts


@pytest.mark.slow
def test_overhead_of_a_dataset_of_six_classes(toy):
    """It drew targets of ten."""
    done = benchmark("overhead.py", toy, "--pairs", "2", "--steps", "1", "--batch", "20", "--size", "16")
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if "ratio" in line] == [
        "trainer / bare loop",
        "trainer with memory loader / bare loop",
    ]
