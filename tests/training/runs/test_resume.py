"""What a launcher that starts the same command again goes on with."""

import pytest
from tiny_run import flags

from training.__main__ import main


@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_outcome_that_a_restart_cannot_change_is_not_repeated(toy, tmp_path, monkeypatch, capsys, named):
    """torchrun --max-restarts began anew: a run that ended below its target, whose folder nobody had named."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "run-001"
    command = flags(toy, folder, "--target", "100", "--short-epoch")
    if not named:
        place = command.index("--logdir")
        del command[place : place + 2]
    assert main(command) == 3 and folder.is_dir()
    log, began = (folder / "run.jsonl").read_bytes(), sorted(tmp_path.rglob("*"))
    for name, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("TORCHELASTIC_RESTART_COUNT", "1")):
        monkeypatch.setenv(name, value)
    assert main(command) == 3
    assert (folder / "run.jsonl").read_bytes() == log and sorted(tmp_path.rglob("*")) == began
    assert "that run has ended (finished_without_target)" in capsys.readouterr().err
    if named:
        check_restarts_of_a_resumed_run(folder, command, log, monkeypatch, capsys)


def check_restarts_of_a_resumed_run(folder, command, log, monkeypatch, capsys) -> None:
    """launch/slurm.sh starts torchrun with --resume after a requeue: the end below the target became bad input (2)."""
    for resumed in (["--resume", str(folder)], [*command, "--resume"]):
        assert main(resumed) == 3 and (folder / "run.jsonl").read_bytes() == log
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")  # by hand it is a mistake
    assert main(resumed) == 2 and "Start a new run" in capsys.readouterr().err


def test_a_restart_of_a_run_that_diverged(toy, tmp_path, monkeypatch, capsys):
    """The same steps would diverge again."""
    command = flags(toy, tmp_path / "run", "--inject-fault", '{"kind": "nan", "epoch": 0, "step": 1}')
    assert main(command) == 4
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3"), monkeypatch.setenv("WORLD_SIZE", "1")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert main(command) == 4 and "that run has ended (diverged)" in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
