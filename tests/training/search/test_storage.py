"""Which trials a storage holds: of this search alone, and each with a living process."""

import json
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from optuna.trial import TrialState

from training.errors import ConfigError
from training.search import trials
from training.search.settings import parsed
from training.search.space import choices_of, space_of, start_of
from training.search.storage import at_work, free_lost_trials, freed, next_trial, open_study, running
from training.search.trials import all_choices, spent_seconds, try_next, watched

ROOT = Path(__file__).resolve().parents[3]


def test_trials_of_other_data_or_own_code_are_not_mixed_with_these(job, tmp_path, monkeypatch):
    """The paths were compared and not what is there."""
    code, phases, root = tmp_path / "mine.py", tmp_path / "phases.json", tmp_path / "data"
    code.write_text("def network(classes): ...\n")
    phases.write_text(json.dumps([{"ep": 0, "sz": 16, "bs": 60}, {"ep": [0, 2], "lr": 0.1}]))
    manifest = (Path(job.settings.config.data) / "manifest.json").read_text()
    root.mkdir()
    (root / "manifest.json").write_text(manifest)
    words = [str(root), "--phases", str(phases), "--model", f"{code}:network", "--target", "90", "--budget", "10m"]

    def opened(*more):
        settings = parsed([*words, "--logdir", str(tmp_path / "search"), *more])
        return open_study(settings, space_of(start_of(settings.config), False, ""), [])

    opened()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    opened("--no-tensorboard", "--print-freq", "3", "--workers", "1", "--checkpoint-every", "7")
    digest = json.loads(manifest)["sha256"]
    edits = {
        "data": (root / "manifest.json", digest, digest[::-1]),
        "code": (code, "...", "return 1"),
        "settings": (phases, "60", "40"),
    }
    for kind, (path, before, after) in edits.items():
        text = path.read_text()
        path.write_text(text.replace(before, after))
        with pytest.raises(ConfigError, match=rf"holds another search \(other {kind}\)"):
            opened()
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"\(other settings\)"):
        opened("--threads", "3")


def test_a_search_of_an_earlier_version_is_refused_as_such(job):
    study = open_study(job.settings, job.space, [])
    study.set_user_attr("search", "ab" * 32)
    with pytest.raises(ConfigError, match=r"\(other version\)"):
        open_study(job.settings, job.space, [])


def test_a_storage_that_cannot_be_opened_is_one_line(job):
    with pytest.raises(ConfigError, match="--storage nonsense://x: ") as error:
        open_study(replace(job.settings, storage="nonsense://x"), job.space, [])
    assert "\n" not in str(error.value)


def test_a_damaged_journal_is_one_line(study, job):
    journal = job.settings.folder / "trials.journal"
    journal.write_text("{}\n" + journal.read_text())
    with pytest.raises(ConfigError, match=f"--storage {journal}: "):
        open_study(job.settings, job.space, [choices_of(job.start)])


KILLED = """
import os, sys
from pathlib import Path
from training.search.settings import parsed
from training.search.space import choices_of, space_of, start_of
from training.search.storage import at_work, next_trial, open_study

settings = parsed(sys.argv[1:])
start = start_of(settings.config)
space = space_of(start, False, "")
with at_work(settings.folder) as worker:
    next_trial(open_study(settings, space, [choices_of(start)]), space, settings.folder, worker)
    os._exit(1)
"""


def test_a_trial_of_a_process_that_was_killed_comes_again(job):
    """The number of a process tells nothing on another machine, or when another process has got it."""
    words = [job.settings.config.data, "--recipe", "toy", "--target", "90", "--budget", "10m"]
    command = [sys.executable, "-c", KILLED, *words, "--logdir", str(job.settings.folder)]
    assert subprocess.run(command, cwd=ROOT).returncode == 1
    study = open_study(job.settings, job.space, [choices_of(job.start)])
    (trial,) = study.trials
    assert trial.state == TrialState.RUNNING and free_lost_trials(study, job.settings.folder) == 1
    assert study.trials[trial.number].state == TrialState.FAIL
    assert study.ask(fixed_distributions=job.space.distributions).params == trial.params


def test_a_trial_whose_process_was_killed_before_it_left_its_name_comes_again(study, job):
    """One between two names ended every later start with a KeyError."""
    trial = study.ask()  # before it has taken its choices
    folder = job.settings.folder
    assert free_lost_trials(study, folder) == 1 and free_lost_trials(study, folder) == 0
    assert study.trials[trial.number].state == TrialState.FAIL
    again = study.ask(fixed_distributions=job.space.distributions)
    assert all_choices(job, again.params) == choices_of(job.start)


def test_a_trial_of_a_living_process_is_not_lost(study, job):
    folder = job.settings.folder
    with at_work(folder) as worker:
        next_trial(study, job.space, folder, worker)
        assert free_lost_trials(study, folder) == 0
    assert free_lost_trials(study, folder) == 1


@pytest.mark.parametrize("url", ["", "sqlite:///{}/trials.db"])
def test_a_lost_trial_is_freed_once_by_processes_that_start_together(job, tmp_path, url):
    """The second one ended with a ValueError."""
    settings = replace(job.settings, storage=url.format(tmp_path))
    mine, others = (open_study(settings, job.space, [choices_of(job.start)]) for _ in range(2))
    mine.ask(fixed_distributions=job.space.distributions)
    (seen,) = running(others)
    assert freed(mine, running(mine)[0]) and not freed(others, seen)
    assert [trial.state for trial in others.trials] == [TrialState.FAIL, TrialState.WAITING]


def without_heartbeats(path):
    """As an hour after the last one."""
    with sqlite3.connect(path) as database:
        return database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')").rowcount


@pytest.fixture
def shared(job, tmp_path):
    """The study in a database, and the file of that."""
    settings = replace(job.settings, storage=f"sqlite:///{tmp_path}/trials.db")
    return open_study(settings, job.space, [choices_of(job.start)]), tmp_path / "trials.db"


def test_a_run_that_is_watched_keeps_the_heartbeat_of_its_trial(shared, job, monkeypatch):
    """None was written: the trial of a machine that was gone for good ran for ever, and no process told a winner."""
    monkeypatch.setattr(trials, "POLL_SECONDS", 0.05)
    study, database = shared
    folder = job.settings.folder
    lost, trial = (next_trial(study, job.space, folder, worker) for worker in ("gone", "here"))
    assert without_heartbeats(database) == 2
    watched(["sleep", "0.2"], folder / "trials" / "0001", trial, job, 10.0, may_prune=False)
    assert free_lost_trials(study, folder) == 1
    assert [trial.number for trial in running(study)] == [1] and study.trials[0].state == TrialState.FAIL
    assert study.ask(fixed_distributions=job.space.distributions).params == lost.params


def test_a_trial_without_any_heartbeat_is_lost_and_told_late_it_is_no_traceback(shared, job):
    """Its process was killed before the first one, or it stood still, as a laptop that sleeps."""
    study, database = shared
    folder = job.settings.folder

    def stands_still(config, schedule):
        return without_heartbeats(database) and free_lost_trials(study, folder)

    killed = study.ask(fixed_distributions=job.space.distributions)
    assert free_lost_trials(study, folder) == 0 and without_heartbeats(database) == 1
    assert free_lost_trials(study, folder) == 1
    found = try_next(job._replace(planned=stands_still), study, inf)
    assert found.state == TrialState.FAIL and found.params == killed.params


def test_an_interrupted_search_gives_its_trial_back_at_once(study, job):
    """With a database another machine would wait until the heartbeat is missed."""

    def interrupted(config, schedule):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_next(job._replace(planned=interrupted), study, inf)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert 0 < spent_seconds(study) < 60  # it cost no budget


def test_a_trial_whose_process_is_killed_costs_what_it_took(study, job, monkeypatch):
    """It cost no budget."""
    monkeypatch.setattr(trials, "POLL_SECONDS", 0.02)
    folder = job.settings.folder
    trial = next_trial(study, job.space, folder, "gone")
    watched(["sleep", "0.5"], folder / "trials" / "0000", trial, job, 10.0, may_prune=False)
    assert free_lost_trials(study, folder) == 1
    assert study.trials[0].state == TrialState.FAIL and 0.1 < spent_seconds(study) < 60


CONFIRMING = """
import sys
from training.search.confirm import train
from training.search.settings import parsed

settings = parsed(sys.argv[1:])
train(settings, settings.folder / "start", [])
"""


def test_a_search_that_is_killed_leaves_no_run_of_its_confirmation(job):
    folder = str(job.settings.folder)
    words = [job.settings.config.data, "--recipe", "toy", "--target", "90", "--budget", "10m", "--logdir", folder]
    search = subprocess.Popen([sys.executable, "-c", CONFIRMING, *words], cwd=ROOT)
    children = Path(f"/proc/{search.pid}/task/{search.pid}/children")
    while not (found := children.read_text().split()):
        assert search.poll() is None
        time.sleep(0.05)
    search.kill()
    search.wait()
    until = time.monotonic() + 60
    while is_alive(found[0]):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_alive(process: str) -> bool:
    """Not so where only its exit code is left, for which nobody has asked."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
