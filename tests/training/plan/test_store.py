"""The cache of measurements, which several processes fill."""

import subprocess
import sys

import pytest

from training.plan import store
from training.plan.store import CheckTime, EntryTime, Measurements, StartTime, StepTime
from training.plan.work import Checking, Entry, Training

KEY = {"a": 1}
WRITER = """
import sys
from training.plan import store
for size in map(int, sys.argv[1:]):
    store.write({"a": 1}, store.Measurements(flops={(size, False): size}), sys.exit)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def step(seconds):
    return StepTime(0.0, seconds, seconds, 0.0, 0.0, 3)


def test_two_processes_that_measure_at_the_same_time_keep_the_points_of_both():
    sizes = [range(1, 13, 2), range(2, 13, 2)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, *map(str, own)]) for own in sizes]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    assert store.read(KEY, pytest.fail).flops == {(size, False): size for size in range(1, 13)}


def test_what_another_process_has_kept_is_there_after_a_write_and_counts():
    both, mine, theirs = Training(16, 8, ""), Training(24, 8, ""), Training(32, 8, "")
    first, second = store.read(KEY, pytest.fail), store.read(KEY, pytest.fail)
    first.steps = {both: step(1.0), theirs: step(3.0)}
    store.write(KEY, first, pytest.fail)
    second.steps = {both: step(9.0), mine: step(2.0)}
    store.write(KEY, second, pytest.fail)
    assert second.steps == {both: step(1.0), mine: step(2.0), theirs: step(3.0)}
    assert store.read(KEY, pytest.fail) == second


def test_of_what_every_measurement_tells_anew_the_later_one_is_kept():
    """The first one stayed for ever, and with it the peak of another schedule."""
    first, later = (StartTime(0.0, 0.0, 0.0, 0.0, "fp32", "cpu", memory) for memory in (1, 2))
    store.write(KEY, Measurements(first, utc="2026-11-27T10:00:00+00:00"), pytest.fail)
    store.write(KEY, Measurements(later, utc="2026-11-27T11:00:00+00:00"), pytest.fail)
    stale = Measurements(first, flops={(8, False): 1}, utc="2026-11-27T10:00:00+00:00")
    store.write(KEY, stale, pytest.fail)
    assert store.read(KEY, pytest.fail) == stale and stale.start == later


def test_points_come_back_with_all_that_was_measured():
    training, checking = Training(16, 8, ""), Checking(16, 8, "", False, "none", 1.0)
    found = Measurements(checks={checking: CheckTime(1.0, 0.5, 3, 4)})
    found.entries = {Entry(training, checking, True): EntryTime(1.0, 2)}
    store.write(KEY, found, pytest.fail)
    assert store.read(KEY, pytest.fail) == found


def test_a_cache_that_cannot_be_written_costs_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = []
    store.write(KEY, Measurements(), said.append)
    assert len(said) == 1 and "the next plan measures again" in said[0] and "\n" not in said[0]


def test_a_damaged_file_is_replaced_by_the_next_measurements():
    store.write(KEY, Measurements(), pytest.fail)
    store.file_of(KEY).write_text("{")
    store.write(KEY, Measurements(flops={(8, False): 1}), pytest.fail)
    assert store.read(KEY, pytest.fail).flops == {(8, False): 1}
