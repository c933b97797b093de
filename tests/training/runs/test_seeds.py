"""A run per seed: started, resumed, or left alone."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import events, flags, train

from training.__main__ import main
from training.errors import ConfigError
from training.runs.seeds import parse_seeds

REPOSITORY = Path(__file__).parents[3]
WRITTEN = {"0-3": [0, 1, 2, 3], "0,3,7": [0, 3, 7], "2, 1-2": [2, 1], "5": [5]}


@pytest.mark.parametrize("text", WRITTEN)
def test_seeds_as_written(text):
    assert parse_seeds(text) == WRITTEN[text]


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "0-99999999", "1.5", "9" * 30])
def test_what_are_no_seeds(text):
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.slow
def test_a_seed_that_has_ended_is_left_alone_and_an_interrupted_one_goes_on(toy, tmp_path, capfd):
    cut = '{"kind": "term", "epoch": 1, "step": 1}'
    assert train(toy, tmp_path / "seed-3", "--seed", "3") == 0
    assert train(toy, tmp_path / "seed-4", "--seed", "4", "--inject-fault", cut) == 75
    assert main([*flags(toy, tmp_path), "--seeds", "3-4"]) == 0
    out = capfd.readouterr().out
    assert "seed 4: going on in" in out and f"dawn study {tmp_path}" in out
    assert [len(events(tmp_path / f"seed-{seed}", "start")) for seed in (3, 4)] == [1, 2]


@pytest.mark.slow
def test_each_seed_is_run_once_and_an_interrupted_one_goes_on(toy, tmp_path, capfd):
    cut = '{"kind": "term", "epoch": 1, "step": 1}'
    assert train(toy, tmp_path / "seed-4", "--seed", "4", "--inject-fault", cut) == 75
    command = [*flags(toy, tmp_path), "--seeds", "3-4"]
    assert main(command) == 0
    out = capfd.readouterr().out
    assert "seed 3: training in" in out and "seed 4: going on in" in out and f"dawn study {tmp_path}" in out
    assert [len(events(tmp_path / f"seed-{seed}", "start")) for seed in (3, 4)] == [1, 2]
    assert [events(tmp_path / f"seed-{seed}", "start")[0]["seed"] for seed in (3, 4)] == [3, 4]
    assert main(command) == 0  # nothing left to do
    assert [len(events(tmp_path / f"seed-{seed}", "start")) for seed in (3, 4)] == [1, 2]


def test_runs_with_other_settings_are_refused_before_the_first(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "seed-4", "--seed", "4") == 0
    capsys.readouterr()
    assert main([*flags(toy, tmp_path), "--seeds", "3-4", "--flip", "none"]) == 2
    err = capsys.readouterr().err
    assert "seed-4: a run with other settings is there: --flip is 'random' there, 'none' here" in err
    assert err.count("\n") == 1 and not (tmp_path / "seed-3").exists()


def test_runs_that_have_ended_are_not_repeated(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "seed-4", "--seed", "4") == 0
    before = (tmp_path / "seed-4" / "run.jsonl").read_bytes()
    assert main([*flags(toy, tmp_path), "--seeds", "4"]) == 0
    out = capsys.readouterr().out
    assert f"seed 4: finished ({tmp_path / 'seed-4'})" in out and f"dawn study {tmp_path}" in out
    assert (tmp_path / "seed-4" / "run.jsonl").read_bytes() == before


@pytest.mark.parametrize("seed", [["--seed", "3"], ["--seed=3"]])
def test_a_set_of_seeds_has_no_seed_of_its_own(toy, tmp_path, capsys, seed):
    assert main([*flags(toy, tmp_path), "--seeds", "0-1", *seed]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sigterm_to_the_command_alone_reaches_its_run_which_saves(toy, tmp_path):
    command = [sys.executable, "-m", "training", *flags(toy, tmp_path, "--epochs", "2000"), "--seeds", "0-1"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, process_group=0) as process:
        log = tmp_path / "seed-0/run.jsonl"
        while process.poll() is None and not (log.exists() and events(tmp_path / "seed-0", "epoch")):
            time.sleep(0.05)
        process.terminate()
        assert process.wait(120) == 75
    assert events(tmp_path / "seed-0", "stop")[-1]["outcome"] == "preempted" and not (tmp_path / "seed-1").exists()
