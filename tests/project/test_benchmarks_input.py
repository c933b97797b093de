"""The benchmarks keep starting, and bad input of theirs is one line and exit code 2 as in the commands."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


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
    ],
    ids=lambda arguments: " ".join(arguments[:3:2]),
)
def test_a_missing_dataset_is_no_traceback(tmp_path, arguments):
    done = benchmark(*(text.format(none=tmp_path / "none", runs=tmp_path / "runs") for text in arguments))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("more", [["--steps", "0"], ["--steps", "3"], ["--pairs", "0"], ["emma"]], ids=" ".join)
def test_what_recipes_cannot_measure(more):
    done = benchmark("recipes.py", *more)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {' '.join(more)}: "), done.stderr


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
