"""Whole searches on the toy set: real trials in processes of their own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from phases import Schedule
from training.__main__ import main
from training.plan import measure

FAST = ["--recipe", "toy", "--precision", "fp32", "--budget", "10m", "--confirm", "0"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.json"
    path.write_text(json.dumps({"epochs": {"low": 1, "high": 6, "step": 1}, "batch_factor": 1.0, "tta": "none"}))
    return path


def arguments(data, folder, space, *more):
    return ["search", str(data), *FAST, "--space", str(space), "--logdir", str(folder), *more]


def trials(folder):
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_search_finds_a_schedule_that_trains(toy, tmp_path, space, capfd):
    folder = tmp_path / "search"
    more = "--target", "60", "--trials", "6", "--confirm", "2"
    assert main(arguments(toy, folder, space, *more)) == 0
    rows = trials(folder)
    assert len(rows) == 6 and rows[0]["state"] == "complete" and float(rows[0]["epochs"]) == 6
    best = json.loads((folder / "best.json").read_text())
    assert best["phases"] and (folder / "search.html").stat().st_size > 10**6
    seeds = [path.name for side in ("winner-*", "start") for path in (folder / "confirm").glob(f"{side}/seed-*")]
    assert sorted(seeds) == ["seed-1000000000"] * 2 + ["seed-1000000001"] * 2
    assert "winner" in capfd.readouterr().out


@pytest.mark.slow
def test_a_killed_search_goes_on_and_two_processes_share_it(toy, tmp_path, space):
    folder = tmp_path / "search"
    words = arguments(toy, folder, space, "--target", "60", "--trials", "6")
    command = [sys.executable, "-m", "training", *words]
    first = subprocess.Popen(command)
    while not list(folder.glob("trials/0001*")):
        assert first.poll() is None
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    rows = trials(folder)
    assert sorted(int(row["trial"]) for row in rows) == list(range(len(rows))) and len(rows) >= 6
    assert [row["state"] for row in rows].count("fail") == 1  # the one that was under way


@pytest.mark.slow
def test_processes_that_come_to_their_end_together_confirm_once(toy, tmp_path, space):
    folder = tmp_path / "search"
    words = arguments(toy, folder, space, "--target", "1", "--trials", "1")
    assert main(words) == 0
    command = [sys.executable, "-m", "training", *words, "--confirm", "1"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    assert len(list((folder / "confirm").glob("*/seed-*"))) == 2


@pytest.mark.slow
def test_a_search_that_is_interrupted_in_its_confirmation_goes_on(toy, tmp_path, space, handler):
    """Its run was killed before it had saved, and nothing said how to go on."""
    folder = tmp_path / "search"
    words = arguments(toy, folder, space, "--target", "1", "--trials", "1")
    command = [sys.executable, "-m", "training", *words, "--confirm", "1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(folder.glob("confirm/*/seed-*/run.jsonl")):
        assert first.poll() is None
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130 and said.strip().endswith(f"{folder}: interrupted. The same command goes on")
    assert subprocess.run(command, timeout=300).returncode == 0
    assert len(list((folder / "confirm").glob("*/seed-*"))) == 2


@pytest.mark.slow
def test_a_target_that_no_trial_reaches(toy, tmp_path, space, capsys):
    folder = tmp_path / "search"
    assert main(arguments(toy, folder, space, "--target", "100", "--trials", "2")) == 3
    assert "no choice reaches 100 %: the best is trial " in capsys.readouterr().out


def test_a_small_search_from_its_first_trial_to_its_page(toy, tmp_path, capfd, monkeypatch):
    """The budget of a thousandth of a second is refused first: the plan is measured once."""
    for name, less in {"BUDGET": 0.1, "LOADER_SECONDS": 0.01, "LEAST": 1}.items():  # this is no timing
        monkeypatch.setattr(measure, name, less)
    small = ["--device", "cpu", "--width", "0.25", "--phases", "[{'ep':0,'sz':12,'bs':16},{'ep':(0,1),'lr':0.1}]"]
    folder = tmp_path / "search"
    words = ["search", str(toy), *small, "--precision", "fp32", "--target", "1", "--logdir", str(folder)]
    assert main([*words, "--budget", "0.001s"]) == 2
    assert "--budget: 0 s is less than one trial" in capfd.readouterr().err
    assert main([*words, "--budget", "10m", "--trials", "1", "--confirm", "0"]) == 0
    (row,) = trials(folder)
    assert row["state"] == "complete" and float(row["planned_seconds"]) > 0 and float(row["accuracy"]) > 0
    assert (folder / "search.html").exists()
    assert Schedule.parse(str(folder / "best.json")).total_epochs == 1


@pytest.mark.parametrize("budget", ["soon", "0", "-4h", "4 weeks", ""])
def test_a_budget_that_is_no_time(toy, tmp_path, space, capsys, budget):
    assert main(arguments(toy, tmp_path / "s", space, "--target", "60", f"--budget={budget}")) == 2
    assert "write a time above 0" in capsys.readouterr().err
