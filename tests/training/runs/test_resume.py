"""What a launcher that starts the same command again goes on with."""

import pytest
from tiny_run import flags

from training.__main__ import main


@pytest.mark.parametrize("named", [True, False])
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
